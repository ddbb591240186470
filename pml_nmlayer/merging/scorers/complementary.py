"""Merge important bits with those that correlate least."""

from torch import Tensor

from ..graph import RedundancyGraph
from .base import Scorer, _anchored


class Complementary(Scorer):
    r"""Let the most important bits lead, each joined by bits unlike itself.

    Formula:  anchors: the K' bits of largest v. A_ij = 1 - |ρ_ij| between an anchor and any
              other bit; no edge elsewhere.
    Source:   this package.  Differs: not in Fu et al.

    Weighted by importance unless weighting="equal".
    """

    ranks_bits = True
    default_weighting = "importance"

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, Tensor | None]:
        """Strengths between anchors and the others."""
        return _anchored(1 - graph.correlation().abs(), graph, out_bits)
