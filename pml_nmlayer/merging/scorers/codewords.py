"""Merge bits towards the codewords of classes."""

import torch
from torch import Tensor

from ..graph import RedundancyGraph
from ..partition import group_signs
from ..targets import groups_for_targets
from .base import Scorer


class Codewords(Scorer):
    r"""Merge bits so that their sums come close to codewords of the classes.

    Formula:  `redundancy.groups_for_targets`, then weights of a group divided by the sum of
              their absolute values. The codewords are found first, in the long code:
              `semantic_codebook` of its class means. The graph's moments and these means
              are all that is needed.
    Source:   this package.  Differs: not in Fu et al.

    Right after the merge, the code is better than random, pruned or by correlation, on
    average over losses and data sets. Training on makes up for nearly all of the
    difference, unless little of it is left (docs/evidence.md).
    Needs a layer with `num_classes`, of which it is the default. No weighting: what is
    solved for is a weight.
    """

    needs_codewords = True

    def __init__(self) -> None:
        super().__init__(weighting="equal")

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, None]:
        """Strengths |ρ|: by them a schedule sees whether bits change; groups do not."""
        return graph.correlation().abs(), None

    def group(
        self,
        graph: RedundancyGraph,
        out_bits: int,
        max_group: int,
        agreement: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Fit groups; equal weights where a group knows nothing of its codeword bit."""
        assert agreement is not None
        groups, weights = groups_for_targets(graph.moment, agreement, max_group)
        total = weights.new_zeros(out_bits).index_add_(0, groups, weights.abs())[groups]
        signs = group_signs(graph.correlation(), groups)
        sizes = torch.bincount(groups, minlength=out_bits)[groups]
        known = total > 1e-6
        return groups, torch.where(known, weights / total.clamp(min=1e-6), signs / sizes)
