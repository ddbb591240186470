"""Whether any of the first k items is relevant: Recall@K of metric learning papers."""

import torch
from torch import Tensor

from ..runtime.options import check_count
from .ties import _check_histograms

_GRID_CELLS = 2**18


def hit_rate_at_k(items: Tensor, hits: Tensor, k: int) -> Tensor:
    r"""Probability of a relevant item among the first k, over all orders of ties.

    Metric learning papers call its mean Recall@K. `recall_at_k` is another metric, the
    share of all relevant items.

    Formula:  1 if a hit lies before the tie that k cuts; else, with n items and h hits in
              that tie and m places left,  1 - C(n - h, m) / C(n, m).

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.
        k: number of ranks.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in [0, 1]; NaN where R = 0. Without ties they are 0 or 1.
    Raises:   ValueError: as `tie_aware_average_precision`.
    Source:   Jegou et al., TPAMI 2011 (recall@R); Song et al., CVPR 2016.
              Differs: the expectation over orders of ties.

    Example:
        >>> hit_rate_at_k(torch.tensor([[0, 3]]), torch.tensor([[0, 1]]), k=1)
        tensor([0.3333], dtype=torch.float64)
    """
    _check_histograms(items, hits)
    check_count("k", k)
    if len(items) == 0:
        return items.new_zeros(0).double()
    before = items.cumsum(1) - items
    m = (k - before).clamp(min=0).minimum(items)
    n, h = items.double(), hits.double()
    whole = (m == items) & (hits > 0)  # all of a tie with a hit is among the first k
    cut = (m > 0) & (m < items) & (hits > 0)
    at = cut.int().argmax(1, keepdim=True)  # at most one tie is cut
    n, h, m = (x.gather(1, at).squeeze(1) for x in (n, h, m.double()))
    missed = torch.where(cut.any(1), _none_of(n, h, m), 1.0)
    value = torch.where(whole.any(1), 1.0, 1 - missed)
    return torch.where(hits.sum(1) > 0, value, torch.nan)


def _none_of(n: Tensor, h: Tensor, m: Tensor) -> Tensor:
    """C(n - h, m) / C(n, m) as a product of as many factors as the smaller of h and m."""
    few, many = torch.minimum(h, m), torch.maximum(h, m)
    width = max(int(few.max()), 1)
    step = max(_GRID_CELLS // width, 1)
    parts = []
    for n_, few_, many_ in zip(
        n.split(step), few.split(step), many.split(step), strict=True
    ):
        j = torch.arange(width, dtype=torch.float64, device=n.device)
        factor = (1 - many_[:, None] / (n_[:, None] - j).clamp(min=1)).clamp(min=0)
        parts.append(torch.where(j < few_[:, None], factor, 1.0).prod(1))
    return torch.cat(parts)
