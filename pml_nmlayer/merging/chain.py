"""A chain of NMLayers: from the longest code to the shortest, one merge after another."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..runtime.mirror import Mirror
from .nm_layer import Merge, NMLayer
from .scorers.base import Scorer


class MergeChain(nn.Module):
    r"""Merge bits stage by stage.

    Formula:  stage s:  out = M_s ... M_1 u.

    Args:
        bits: code lengths K_0 > K_1 > ...; one length means no merge.
        scorer: see `NMLayer`; the same one in each stage.
        max_group: see `NMLayer`; the same bound in each stage.
        memory: see `NMLayer`.

    Shapes:   u (B, K_0) -> (B, K_s). Buffers keep their shapes through all stages.
    Raises:   ValueError: lengths that do not fall strictly, or < 1; else as `NMLayer`.
              RuntimeError: a stage that does not fit the layers, as after averaging.
    Source:   Fu et al., IJCAI 2019 (several layers, trained one after another).
              Differs: the active phase of a stage begins with the merge before it.

    Example:
        >>> chain = MergeChain((8, 4, 2))
        >>> chain.observe(torch.randn(32, 8), torch.arange(32) % 4)
        >>> chain.commit(chain.current_layer.plan())
        >>> chain.bits, chain(torch.randn(5, 8)).shape
        (4, torch.Size([5, 4]))
    """

    stage_count: Tensor

    def __init__(
        self,
        bits: Sequence[int],
        *,
        scorer: str | Scorer | Callable[[Tensor, Tensor], Tensor] = "correlation",
        max_group: int | None = None,
        memory: int = 10_000,
    ) -> None:
        super().__init__()
        bits = tuple(bits)
        if not bits or bits[-1] < 1 or any(a <= b for a, b in pairwise(bits)):
            raise ValueError(f"bits must be strictly falling lengths >= 1, got {bits}")
        self.all_bits = bits
        options = {"scorer": scorer, "max_group": max_group, "memory": memory}
        self.layers = nn.ModuleList(
            NMLayer(long, short, **options)  # type: ignore[arg-type]
            for long, short in pairwise(bits)
        )
        self.register_buffer("stage_count", torch.tensor(0))
        self._stage = Mirror()

    @property
    def stage(self) -> int:
        """Number of merges that are made."""
        training, check = self.training, self._check_stage
        return self._stage.of(self.stage_count, training=training, check=check)

    @property
    def bits(self) -> int:
        """Code length now."""
        return self.all_bits[self.stage]

    @property
    def finished(self) -> bool:
        """Whether the last merge is made."""
        return self.stage == len(self.layers)

    @property
    def current_layer(self) -> NMLayer:
        """The layer that observes now, and merges next.

        Raises:
            RuntimeError: all merges are made.
        """
        if self.finished:
            raise RuntimeError(
                f"all {len(self.layers)} merges of {self.all_bits} are done already"
            )
        return self._layer(self.stage)

    def merged(self, stage: int | None = None) -> list[NMLayer]:
        """List the layers that merge.

        Args:
            stage: as if only so many merges were made; None for all that are.
        """
        # No slice: that of a ModuleList is a new module, which takes its time
        return [self._layer(i) for i in range(self.stage if stage is None else stage)]

    def _layer(self, place: int) -> NMLayer:
        layer = self.layers[place]
        assert isinstance(layer, NMLayer)
        return layer

    def forward(self, u: Tensor) -> Tensor:
        """Merge neurons (B, K_0) to the present code (B, bits)."""
        for layer in self.merged():
            u = layer(u)
        return u

    def observe(self, outputs: Tensor, labels: Tensor | None = None) -> None:
        """Feed one batch to the graph of this stage; without effect at the end.

        Args:
            outputs: (B, bits), codes or real outputs.
            labels: class ids (B,) or multi-hot rows (B, C).

        Raises:
            ValueError: as `NMLayer.observe`.
        """
        if not self.finished:
            self.current_layer.observe(outputs, labels)

    def commit(self, plan: Merge) -> None:
        """Make the next merge, and go to the next stage.

        Args:
            plan: what `current_layer.plan` returned.

        Raises:
            RuntimeError: all merges are made.
        """
        stage = self.stage
        self.current_layer.freeze(plan=plan)
        self.stage_count.fill_(stage + 1)
        self._stage.set(stage + 1)

    def merge_matrix(self, stage: int | None = None) -> Tensor:
        """Compose merges into one matrix (bits then, K_0).

        Args:
            stage: see `merged`.
        """
        matrix = torch.eye(self.all_bits[0], device=self.stage_count.device)
        for layer in self.merged(stage):
            weights = layer.merge_matrix()
            matrix = weights @ matrix.to(weights)
        return matrix

    def lift(self, v: Tensor, stage: int | None = None) -> Tensor:
        """Spread outputs of a stage over the width of the first one (`NMLayer.lift`).

        Args:
            v: (B, bits then).
            stage: see `merged`.
        """
        for layer in reversed(self.merged(stage)):
            v = layer.lift(v)
        return v

    def unlift(self, e: Tensor, stage: int | None = None) -> Tensor:
        """Undo `lift`.

        Args:
            e: (B, K_0).
            stage: see `merged`.
        """
        for layer in self.merged(stage):
            e = layer.unlift(e)
        return e

    def _check_stage(self) -> None:
        stage = int(self.stage_count)
        frozen = [self._layer(i).is_frozen for i in range(len(self.layers))]
        if frozen != [place < stage for place in range(len(frozen))]:
            raise RuntimeError(
                f"the chain is in stage {stage}, but its layers are "
                f"{'frozen' if any(frozen) else 'active'}: {frozen}. Buffers were averaged "
                "or a layer was changed by hand. Average parameters alone, and copy "
                "buffers: AveragedModel(model, use_buffers=False)"
            )

    def _load_from_state_dict(self, *args: object) -> None:
        super()._load_from_state_dict(*args)
        self._stage.set(int(self.stage_count))

    def look_again(self) -> int:
        """Read stage and phases anew, whatever was remembered, and tell the stage."""
        self._stage.set(self._stage.value)
        for place in range(len(self.layers)):
            self._layer(place).look_again()
        return self.stage

    def extra_repr(self) -> str:
        """Show lengths and stage in print(model)."""
        return f"bits={self.all_bits}, stage={self.stage}"
