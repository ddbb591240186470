"""Tie-aware NDCG for graded relevance."""

from typing import Literal, get_args

import torch
from torch import Tensor

from ..hamming.exclusion import Exclude, exclude_rows
from ..hamming.histograms import MAX_BYTES, grade_histograms
from ..labels.checks import as_labels
from ..labels.relevance import Relevance
from ..runtime.options import check_choice, check_count
from ..runtime.renamed import SIDES, renamed
from .queries import Empty, mean_over_queries
from .ties import TieOrder, _check_counts, _harmonic, _query_blocks

Gain = Literal["exponential", "linear"]


@renamed()
def tie_aware_ndcg(
    counts: Tensor, k: int | None = None, *, gain: Gain = "exponential"
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
    _check_counts(counts)
    check_choice("gain", gain, get_args(Gain))
    check_count("k", k, none="all")
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


@renamed(**SIDES)
def ndcg(
    query: Tensor,
    query_labels: Tensor,
    reference: Tensor,
    reference_labels: Tensor,
    k: int | None = None,
    *,
    gain: Gain = "exponential",
    ref_includes_query: bool = False,
    bits: int | None = None,
    max_bytes: int = MAX_BYTES,
    empty: Empty = "skip",
    relevance: Relevance | None = None,
    grades: int | None = None,
    exclude: Exclude | None = None,
) -> float:
    r"""NDCG of a Hamming ranking, graded by shared labels or as one likes.

    Formula:  mean of `tie_aware_ndcg` over the queries with a relevant item.

    Args:
        query: query codes, -1 and +1, or packed uint8.
        query_labels: class ids (grades 0 and 1), or rows of 0 and 1.
        reference: database codes, in the same form.
        reference_labels: labels of the database, in the same form.
        k: number of ranks that count; None for all.
        gain: "exponential" or "linear".
        ref_includes_query: the database begins with the queries; none finds itself.
        bits: code length K in bits; required for packed codes only.
        max_bytes: bound on memory beyond the arguments, at least 2^20.
        empty: what a query without relevant items does to the mean.
        relevance: grades, see `hamming.grade_histograms`; None for the number of shared
            labels.
        grades: number of grades of `relevance`, required with it.
        exclude: pairs to leave out, see `hamming.hamming_histograms`.

    Shapes:   query (Q, K), reference (N, K), labels (Q,) and (N,) or (Q, C) and (N, C).
    Returns:  float in [0, 1]; NaN if no query has a relevant item (unless empty="zero").
    Raises:   ValueError: as `mean_average_precision` and `tie_aware_ndcg`.
    Source:   as `tie_aware_ndcg`.  Differs: as there.
    """
    query, query_labels = torch.as_tensor(query), as_labels(query_labels, "query labels")
    most = query_labels.shape[1] + 1 if query_labels.ndim == 2 else 2
    of_query = 128 + 40 * (most if grades is None else grades)
    values = []
    for rows in _query_blocks(query, bits, of_query, max_bytes):
        counts = grade_histograms(
            query[rows], query_labels[rows], reference, reference_labels,
            ref_includes_query, bits=bits, max_bytes=max_bytes, query_start=rows.start,
            relevance=relevance, grades=grades, exclude=exclude_rows(exclude, rows),
        )  # fmt: skip
        values.append(tie_aware_ndcg(counts, k, gain=gain))
    return mean_over_queries(torch.cat(values), empty=empty)


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
