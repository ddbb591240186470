"""Merge the bits that correlate most."""

from torch import Tensor

from ..graph import RedundancyGraph
from .base import EVERY_N_STEPS, Scorer, Weighting


class Correlation(Scorer):
    r"""Merge the bits that correlate most, positively or negatively.

    Formula:  A_ij = |ρ_ij|.
    Source:   Fu et al., IJCAI 2019 (redundancy).  Differs: their graph is learned by an
              attention-like update that the abstract does not spell out.

    Args:
        weighting: "importance" (default), which needs labels, or "equal", which does not.
        every_n_steps: see `Scorer`; of importances, which do not choose the groups here.
        max_items: see `Scorer`.
    """

    def __init__(
        self,
        *,
        weighting: Weighting = "importance",
        every_n_steps: int = 2 * EVERY_N_STEPS,
        max_items: int | None = None,
    ) -> None:
        super().__init__(
            weighting=weighting, every_n_steps=every_n_steps, max_items=max_items
        )

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, None]:
        """Strengths |ρ|."""
        return graph.correlation().abs(), None
