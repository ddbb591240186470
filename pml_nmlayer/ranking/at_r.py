"""Metrics that look at as many items as are relevant: each query has its own cut-off R."""

import torch
from torch import Tensor

from .ndcg import _sum_of_block
from .ties import _check_histograms


def tie_aware_map_at_r(items: Tensor, hits: Tensor) -> Tensor:
    r"""mAP@R of each query, in expectation over all orders of tied items.

    Formula:  (1 / R) sum over ranks i <= R of rel_i (hits among the first i) / i.

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in [0, 1]; NaN for a query without relevant items (R = 0).
    Raises:   ValueError: as `tie_aware_average_precision`.
    Source:   Musgrave et al., ECCV 2020, arXiv:2003.08505.  Differs: the expectation over
              ties; PML ranks tied items as its search returns them.

    Example:
        >>> items, hits = torch.tensor([[1, 1, 1]]), torch.tensor([[0, 1, 1]])
        >>> tie_aware_map_at_r(items, hits)  # of two ranks the second hits: 1/2 / 2
        tensor([0.2500], dtype=torch.float64)
    """
    _check_histograms(items, hits)
    n, h = items.double(), hits.double()
    before_n, before_h = n.cumsum(1) - n, h.cumsum(1) - h
    relevant = h.sum(1)
    m = (relevant[:, None] - before_n).clamp(min=0).minimum(n)
    # what lies behind the first R adds nothing
    reached = int((before_n < relevant[:, None]).any(0).sum())
    n, h, before_n, before_h, m = (x[:, :reached] for x in (n, h, before_n, before_h, m))
    total = _sum_of_block(n, h, before_n, before_h, m, "expected").sum(1)
    return torch.where(relevant > 0, total / relevant, torch.nan)
