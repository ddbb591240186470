"""Merge the bits whose merge costs least."""

from torch import Tensor

from ..graph import RedundancyGraph
from ..pair_likelihood import drop_one_importance, merge_cost
from .base import EVERY_N_STEPS, Measurement, Scorer, Weighting


class MergeCost(Scorer):
    r"""Merge the bits that are missed least as separate ones.

    Formula:  A_ij = -c_ij, the running mean of `merge_cost`.
    Source:   this package.  Differs: not in Fu et al.

    Args:
        weighting: "importance" (default) or "equal".
        every_n_steps: see `Scorer`.
        max_items: see `Scorer`; the cost grows with its square.
    """

    needs_labels = True

    def __init__(
        self,
        weighting: Weighting = "importance",
        every_n_steps: int = EVERY_N_STEPS,
        max_items: int | None = 48,
    ) -> None:
        super().__init__(weighting, every_n_steps, max_items)

    def measure(self, codes: Tensor, labels: Tensor | None) -> Measurement:
        """Measure costs, and importances where groups are weighted by them."""
        assert labels is not None
        cost, scored = merge_cost(codes, labels)
        importance = None
        if self.weighting == "importance":
            importance, _ = drop_one_importance(codes, labels)
        return Measurement(importance, cost, scored)

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, None]:
        """Strengths: what is cheap is strong."""
        return -graph.redundancy, None
