"""Controls: prune, or merge at random."""

import torch
from torch import Tensor

from ..graph import RedundancyGraph
from .base import EVERY_N_STEPS, Scorer, Weighting, _anchored


class Prune(Scorer):
    r"""Control: keep the K' most important bits and drop the others.

    Formula:  as `Complementary`, but an anchor has all the weight of its group.
    Source:   ablation control.  Differs: not in Fu et al.

    Args:
        every_n_steps: see `Scorer`.
        max_items: see `Scorer`.
    """

    ranks_bits = True

    def __init__(
        self, *, every_n_steps: int = EVERY_N_STEPS, max_items: int | None = None
    ) -> None:
        super().__init__(
            weighting="equal", every_n_steps=every_n_steps, max_items=max_items
        )

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, Tensor | None]:
        """Strengths between anchors and the others; which of them is of no consequence."""
        return _anchored(torch.zeros_like(graph.moment), graph, out_bits)

    def weights(
        self, graph: RedundancyGraph, groups: Tensor, anchors: Tensor | None
    ) -> Tensor:
        """One for an anchor, zero for the others."""
        assert anchors is not None
        return anchors.to(graph.importance)


class Random(Scorer):
    r"""Control: merge along random edges.

    Formula:  A_ij uniform in [0, 1), drawn once from `seed`.
    Source:   ablation control.  Differs: not in Fu et al.

    Args:
        seed: of a generator of its own, so that all processes draw the same edges.
        weighting: "equal" (default) or "importance".
        every_n_steps: see `Scorer`; of importances.
        max_items: see `Scorer`.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        weighting: Weighting = "equal",
        every_n_steps: int = EVERY_N_STEPS,
        max_items: int | None = None,
    ) -> None:
        super().__init__(
            weighting=weighting, every_n_steps=every_n_steps, max_items=max_items
        )
        self.seed = seed

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, None]:
        """Random strengths, the same for every call with this size and seed."""
        generator = torch.Generator().manual_seed(self.seed)
        upper = torch.rand(graph.bits, graph.bits, generator=generator).triu(1)
        return (upper + upper.T).to(graph.moment), None
