"""What a head says of the chain of merges that it has."""

from torch import Tensor, nn

from ..merging.chain import MergeChain
from ..merging.nm_layer import NMLayer


class Staged(nn.Module):
    """A head with a chain of merges, `merges`."""

    merges: MergeChain

    @property
    def layers(self) -> nn.ModuleList:
        """The NMLayers, one a merge."""
        return self.merges.layers

    @property
    def current_layer(self) -> NMLayer:
        """The layer that observes now, and merges next.

        Raises:
            RuntimeError: all merges are done.
        """
        return self.merges.current_layer

    @property
    def stage(self) -> int:
        """Number of merges made."""
        return self.merges.stage

    @property
    def bits(self) -> int:
        """Code length now."""
        return self.merges.bits

    @property
    def finished(self) -> bool:
        """Whether the last merge is done."""
        return self.merges.finished

    def merge_matrix(self, stage: int | None = None) -> Tensor:
        """The merges as one matrix (bits then, bits[0]).

        Args:
            stage: number of merges that count; None for all made so far.
        """
        return self.merges.merge_matrix(stage)
