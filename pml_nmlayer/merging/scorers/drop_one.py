"""Merge the most with the least important bits."""

from torch import Tensor

from ..graph import RedundancyGraph
from .base import Scorer


class DropOne(Scorer):
    r"""Merge the most important bits with the least important ones.

    Formula:  v of `drop_one_importance`; A_ij = |rank of v_i - rank of v_j| / K.
    Source:   Fu et al., IJCAI 2019 (balance of importance).  Differs: importance is
              measured by a likelihood in closed form.
    """

    ranks_bits = True

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, Tensor | None]:
        """Strengths by difference of rank, so that the extremes meet first."""
        rank = graph.importance.argsort(stable=True).argsort().to(graph.importance)
        return (rank[:, None] - rank[None, :]).abs() / graph.bits, None
