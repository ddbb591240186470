"""Metrics of graded relevance without discounts: ACG and WAP."""

import torch
from torch import Tensor

from ..runtime.options import check_count
from .average_precision import _ratio_at_cut
from .ndcg import _sum_of_block
from .ties import _check_counts


def tie_aware_acg(counts: Tensor, k: int | None = None) -> Tensor:
    r"""Average cumulative gain: mean grade of the first k items, over all orders of ties.

    Formula:  ACG@k = sum over d of m_d mean grade of d / min(k, N), where m_d items of
              distance d are among the first k.

    Args:
        counts: number of items of each distance and grade, from `hamming.grade_histograms`.
        k: number of ranks that count; None for all.

    Shapes:   counts (Q, K + 1, G) int64 -> (Q,) float64.
    Returns:  values in [0, G - 1]; NaN for a query without relevant items.
    Raises:   ValueError: another shape, or k < 1.
    Source:   Jarvelin and Kekalainen, SIGIR 2000; Zhao et al., CVPR 2015 (DSRH).
              Differs: the expectation over orders of ties.

    Example:
        >>> tie_aware_acg(torch.tensor([[[0, 0, 1], [1, 1, 0]]]), k=2)  # (2 + 1/2) / 2
        tensor([1.2500], dtype=torch.float64)
    """
    _check_counts(counts)
    check_count("k", k, none="all")
    items, gains = counts.sum(2), _gains(counts)
    m = items
    if k is not None:
        m = (k - (items.cumsum(1) - items)).clamp(min=0).minimum(items)
    total = (m * gains / items.clamp(min=1)).sum(1)
    value = total / m.sum(1).clamp(min=1)
    return torch.where(gains.sum(1) > 0, value, torch.nan)


def tie_aware_wap(counts: Tensor, k: int | None = None) -> Tensor:
    r"""Weighted average precision: mean ACG at the ranks of relevant items.

    Formula:  WAP@k = sum over ranks i <= k of [g_i > 0] ACG@i / hits among the first k,
              in expectation over all orders of ties. For grades 0 and 1 it is AP@k of
              normalizer="retrieved".

    Args:
        counts: number of items of each distance and grade, from `hamming.grade_histograms`.
        k: number of ranks that count; None for all.

    Shapes:   counts (Q, K + 1, G) int64 -> (Q,) float64.
    Returns:  values in [0, G - 1]; NaN for a query without relevant items; 0 where none
              reaches the first k.
    Raises:   ValueError: another shape, or k < 1.
    Source:   Zhao et al., CVPR 2015 (DSRH).
              Differs: the expectation over orders of ties, that of the ratio where k cuts
              one.

    Example:
        >>> tie_aware_wap(torch.tensor([[[0, 0, 1], [1, 1, 0]]]))  # 2, then 3/2 or 1
        tensor([1.6250], dtype=torch.float64)
    """
    _check_counts(counts)
    check_count("k", k, none="all")
    items, hits = counts.sum(2), counts[:, :, 1:].sum(2)
    n, h, gains = items.double(), hits.double(), _gains(counts)
    before_n, before_h = n.cumsum(1) - n, h.cumsum(1) - h
    before_gain = gains.cumsum(1) - gains
    # With w, the mean grade of the hits of a tie, its sum of [g > 0] ACG is w times that
    # of precisions of a ranking that has before_gain / w hits before it.
    worth = torch.where(h > 0, gains / h.clamp(min=1), 1.0)
    start = before_gain / worth
    m = n if k is None else (k - before_n).clamp(min=0).minimum(n)
    blocks = worth * _sum_of_block(n, h, before_n, start, m, "expected")
    if k is None:
        value = blocks.sum(1) / h.sum(1)
    else:
        value = _ratio_at_cut(n, h, before_n, before_h, m, blocks, "expected", start, worth)
    return torch.where(h.sum(1) > 0, value, torch.nan)


def _gains(counts: Tensor) -> Tensor:
    """Sum of grades at each distance."""
    grades = torch.arange(counts.shape[2], dtype=torch.float64, device=counts.device)
    return (counts * grades).sum(2)
