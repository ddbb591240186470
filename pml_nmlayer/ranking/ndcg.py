"""Tie-aware NDCG for graded relevance."""

from typing import Literal, get_args

import torch
from torch import Tensor

from ..hamming.histograms import MAX_BYTES, grade_histograms
from ..labels.relevance import Relevance
from .queries import Empty, mean_over_queries
from .ties import TieOrder, _check_option, _check_positive, _harmonic, _query_blocks

Gain = Literal["exponential", "linear"]


def tie_aware_ndcg(
    counts: Tensor, k: int | None = None, gain: Gain = "exponential"
) -> Tensor:
    r"""Normalised discounted cumulative gain of each query, over all orders of tied items.

    Formula:  DCG@k = sum over ranks i <= k of gain(g_i) / log2(1 + i),  NDCG = DCG / ideal;
              gain(g) = 2^g - 1 ("exponential") or g ("linear"). In expectation every item
              of a tie has the tie's mean gain; the ideal ranks by grade.

    Args:
        counts: number of items of each distance and grade, from `hamming.grade_histograms`.
        k: number of ranks that count; None for all.
        gain: what a grade is worth.

    Shapes:   counts (Q, K + 1, G) int64 -> (Q,) float64.
    Returns:  values in [0, 1]; NaN for a query without relevant items. Discounts take 24
              bytes a rank, of which there are k, or N for all.
    Raises:   ValueError: another shape, k < 1, or an unknown gain.
    Source:   McSherry and Najork, ECIR 2008; He et al., CVPR 2018, arXiv:1705.08562.
              Differs: cut-off added.
    """
    if counts.ndim != 3:
        raise ValueError(f"counts must have shape (Q, K + 1, G), got {tuple(counts.shape)}")
    _check_option("gain", gain, get_args(Gain))
    if k is not None:
        _check_positive("k", k)
    grades = torch.arange(counts.shape[2], dtype=torch.float64, device=counts.device)
    worth = torch.exp2(grades) - 1 if gain == "exponential" else grades
    ranks = int(counts.sum((1, 2)).max()) if len(counts) else 0
    ranks = ranks if k is None else min(ranks, k)  # what comes later is discounted to 0
    discount = 1 / torch.log2(torch.arange(2, ranks + 2, device=counts.device).double())
    upto = torch.cat([discount.new_zeros(1), discount.cumsum(0)])

    items = counts.sum(2)
    last = items.cumsum(1)
    mean_gain = (counts * worth).sum(2) / items.clamp(min=1)
    dcg = (mean_gain * _sum_of_discounts(upto, last, items)).sum(1)
    by_grade = counts.sum(1).flip(1)  # the ideal: highest grade first
    last = by_grade.cumsum(1)
    ideal = (worth.flip(0) * _sum_of_discounts(upto, last, by_grade)).sum(1)
    return torch.where(ideal > 0, dcg / ideal, torch.nan)


def ndcg(
    q: Tensor,
    q_labels: Tensor,
    r: Tensor,
    r_labels: Tensor,
    k: int | None = None,
    gain: Gain = "exponential",
    ref_includes_query: bool = False,
    bits: int | None = None,
    max_bytes: int = MAX_BYTES,
    empty: Empty = "skip",
    relevance: Relevance | None = None,
    grades: int | None = None,
) -> float:
    r"""NDCG of a Hamming ranking, graded by shared labels or as one likes.

    Formula:  mean of `tie_aware_ndcg` over the queries with a relevant item.

    Args:
        q: query codes, -1 and +1, or packed uint8.
        q_labels: class ids (grades 0 and 1) or multi-hot rows.
        r: database codes, in the same form.
        r_labels: labels of the database, in the same form.
        k: number of ranks that count; None for all.
        gain: "exponential" or "linear".
        ref_includes_query: the database begins with the queries; none finds itself.
        bits: code length K in bits; required for packed codes only.
        max_bytes: bound on memory beyond the arguments, at least 2^20.
        empty: what a query without relevant items does to the mean.
        relevance: grades, see `hamming.grade_histograms`; None for the number of shared
            labels.
        grades: number of grades of `relevance`, required with it.

    Shapes:   q (Q, K), r (N, K), labels (Q,) and (N,) or (Q, C) and (N, C).
    Returns:  float in [0, 1]; NaN if no query has a relevant item (unless empty="zero").
    Raises:   ValueError: as `mean_average_precision` and `tie_aware_ndcg`.
    Source:   as `tie_aware_ndcg`.  Differs: as there.
    """
    q, q_labels = torch.as_tensor(q), torch.as_tensor(q_labels)
    most = q_labels.shape[1] + 1 if q_labels.ndim == 2 else 2
    of_query = 128 + 40 * (most if grades is None else grades)
    values = []
    for rows in _query_blocks(q, bits, of_query, max_bytes):
        counts = grade_histograms(
            q[rows], q_labels[rows], r, r_labels, ref_includes_query, bits, False,
            max_bytes, rows.start, relevance, grades,
        )  # fmt: skip
        values.append(tie_aware_ndcg(counts, k, gain))
    return mean_over_queries(torch.cat(values), empty)


def _sum_of_discounts(upto: Tensor, last: Tensor, count: Tensor) -> Tensor:
    """Sum over the `count` ranks up to rank `last`, of which those behind k are 0."""
    end = len(upto) - 1
    return upto[last.clamp(max=end)] - upto[(last - count).clamp(max=end)]


def _sum_of_block(
    n: Tensor, h: Tensor, before_n: Tensor, before_h: Tensor, m: Tensor, order: TieOrder
) -> Tensor:
    """Sum of precisions at the hits among the first m items of a tie of n items."""
    if order == "best":  # hits come first: ranks N + 1 .. N + min(h, m)
        reached = torch.minimum(h, m)
        return reached + (before_h - before_n) * _harmonic(before_n, reached)
    if order == "worst":  # hits come last: ranks N + n - h + 1 .. N + m
        misses = n - h
        reached = (m - misses).clamp(min=0)
        start = before_n + misses
        return reached + (before_h - start) * _harmonic(start, reached)
    # A tie of one item has no slope; 1 keeps the sum exact where all so far are hits.
    slope = torch.where(n > 1, (h - 1) / (n - 1).clamp(min=1), 1.0)
    start = before_h + 1 - slope * (before_n + 1)
    return h / n.clamp(min=1) * (slope * m + start * _harmonic(before_n, m))
