"""What a head says of the chain of merges that it has."""

import logging

import torch
from torch import Tensor, nn

from ..merging.chain import MergeChain
from ..merging.nm_layer import NMLayer
from ..runtime.all_or_nothing import all_or_nothing

LOGGER = logging.getLogger("pml_nmlayer")


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

    def merge_next(self, when: str | None = None) -> None:
        """Freeze the graph of this stage, merge, and go to the next stage.

        All or nothing: where it raises, the head is as it was. Each merge is a line in the
        log `pml_nmlayer`, of level INFO.

        Args:
            when: what the log says of the time, "epoch 3" say; None for nothing.

        Raises:
            RuntimeError: all merges are done, or nothing usable was observed since the last
                one.
        """
        graph, before = self.current_layer.graph, self.bits
        try:
            with all_or_nothing(self), torch.no_grad():
                self._merge()
        except BaseException:
            self.merges.look_again()
            raise
        prefix = f"{when}: " if when else ""
        items, batches = int(graph.items), graph.seen_batches
        seen = f"{items} items counted in {batches} batches"
        LOGGER.info(f"{prefix}merged {before} -> {self.bits} bits; {seen}")

    def _merge(self) -> None:
        """Make the next merge."""
        raise NotImplementedError

    def merge_matrix(self, stage: int | None = None) -> Tensor:
        """The merges as one matrix (bits then, bits[0]).

        Args:
            stage: number of merges that count; None for all made so far.
        """
        return self.merges.merge_matrix(stage)
