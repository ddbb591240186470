"""Tie-aware average precision: its expectation over all orders of tied items."""

from typing import Literal, get_args

import torch
from torch import Tensor

from ..hamming.exclusion import Exclude, exclude_rows
from ..hamming.histograms import MAX_BYTES, hamming_histograms
from ..labels.checks import as_labels
from ..labels.relevance import Relevance
from ..runtime.options import check_choice, check_count
from ..runtime.renamed import SIDES, renamed
from .ndcg import _sum_of_block
from .queries import Empty, mean_over_queries
from .ties import (
    _BLOCK_CELLS,
    TieOrder,
    _check_histograms,
    _query_blocks,
)

Normalizer = Literal["retrieved", "relevant", "min"]
_GRID_CELLS = 2**18  # bounds the temporaries of the one tie of a query that needs a sum


@renamed()
def tie_aware_average_precision(
    items: Tensor,
    hits: Tensor,
    k: int | None = None,
    *,
    normalizer: Normalizer = "retrieved",
    tie_order: TieOrder = "expected",
) -> Tensor:
    r"""Average precision of each query, over all orders of tied items.

    Formula:  AP@k = (1 / Z) sum over ranks i <= k of rel_i (hits among the first i) / i;
              Z = hits among the first k ("retrieved", hashing papers), R ("relevant", PML),
              or min(R, k) ("min"). The three are equal for k = None, which ranks all items.
              In expectation a tie of n items and h hits behind N items and H hits adds
              (h / n) sum over p = 1..m of (H + 1 + (p - 1)(h - 1) / (n - 1)) / (N + p),
              with m = min(n, k - N); the sum over p has a closed form in harmonic numbers.
              Where k cuts a tie, Z = "retrieved" is random too: the exact expectation of
              the ratio is taken over the hypergeometric number of hits above the cut.

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.
        k: number of ranks that count; None, or more than there are items, for all.
        normalizer: the denominator Z, see the formula.
        tie_order: "expected" over all orders, or the "best" or "worst" of them.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in [0, 1]; NaN for a query without relevant items (R = 0); 0 where none
              of the relevant items reaches the first k.
    Raises:   ValueError: shapes differ, hits exceed items or are negative, k < 1, or an
              unknown normalizer or tie order.
    Source:   McSherry and Najork, ECIR 2008; He et al., CVPR 2018, arXiv:1705.08562.
              Differs: He et al. replace the sum over p by an integral in training; this is
              the sum. Cut-off, normalisers and tie bounds are added here.

    Example:
        >>> items, hits = torch.tensor([[1, 2]]), torch.tensor([[0, 1]])
        >>> tie_aware_average_precision(items, hits)  # mean of 1/2 and 1/3
        tensor([0.4167], dtype=torch.float64)
    """
    _check_histograms(items, hits)
    check_choice("normalizer", normalizer, get_args(Normalizer))
    check_choice("tie_order", tie_order, get_args(TieOrder))
    check_count("k", k, none="all")
    on_cpu = items.device.type == "cpu"
    rows = max(_BLOCK_CELLS // items.shape[1] if on_cpu else len(items), 1)
    parts = zip(items.split(rows), hits.split(rows), strict=True)
    values = [_average_precision(*part, k, normalizer, tie_order) for part in parts]
    return torch.cat(values)


def _average_precision(
    items: Tensor,
    hits: Tensor,
    k: int | None,
    normalizer: Normalizer,
    tie_order: TieOrder,
) -> Tensor:
    n, h = items.double(), hits.double()
    before_n, before_h = n.cumsum(1) - n, h.cumsum(1) - h
    relevant = h.sum(1)
    if k is None:
        total = _sum_of_block(n, h, before_n, before_h, n, tie_order).sum(1)
        return torch.where(relevant > 0, total / relevant, torch.nan)
    m = (k - before_n).clamp(min=0).minimum(n)
    blocks = _sum_of_block(n, h, before_n, before_h, m, tie_order)
    if normalizer == "retrieved":
        value = _ratio_at_cut(n, h, before_n, before_h, m, blocks, tie_order)
    else:
        z = relevant if normalizer == "relevant" else relevant.clamp(max=k)
        value = blocks.sum(1) / z
    return torch.where(relevant > 0, value, torch.nan)


@renamed(**SIDES)
def mean_average_precision(
    query: Tensor,
    query_labels: Tensor,
    reference: Tensor,
    reference_labels: Tensor,
    k: int | None = None,
    *,
    normalizer: Normalizer = "retrieved",
    ref_includes_query: bool = False,
    tie_order: TieOrder = "expected",
    bits: int | None = None,
    max_bytes: int = MAX_BYTES,
    empty: Empty = "skip",
    relevance: Relevance | None = None,
    exclude: Exclude | None = None,
) -> float:
    r"""Mean average precision of a Hamming ranking, over all orders of tied items.

    Formula:  mAP = mean of `tie_aware_average_precision` over the queries with R > 0.

    Args:
        query: query codes, -1 and +1, or packed uint8.
        query_labels: class ids, or rows of 0 and 1; items are relevant that share a label.
        reference: database codes, in the same form.
        reference_labels: labels of the database, in the same form.
        k: number of ranks that count; None for all (mAP@all).
        normalizer: "retrieved" (hashing papers), "relevant" (PML) or "min".
        ref_includes_query: the database begins with the queries; none finds itself.
        tie_order: "expected", "best" or "worst".
        bits: code length K in bits; required for packed codes only.
        max_bytes: bound on memory beyond the arguments, at least 2^20.
        empty: what a query without relevant items does to the mean.
        relevance: see `hamming.hamming_histograms`; None for shared labels.
        exclude: pairs to leave out, see `hamming.hamming_histograms`.

    Shapes:   query (Q, K), reference (N, K), labels (Q,) and (N,) or (Q, C) and (N, C).
    Returns:  float in [0, 1]; NaN if no query has a relevant item (unless empty="zero").
    Raises:   ValueError: no queries, or as `hamming_histograms` and
              `tie_aware_average_precision`.
    Source:   as `tie_aware_average_precision`.  Differs: as there.

    Example:
        >>> import torch
        >>> codes = torch.tensor([[1, 1], [1, 1], [-1, 1]])
        >>> y = torch.tensor([0, 0, 1])
        >>> mean_average_precision(codes, y, codes, y, ref_includes_query=True)
        1.0
    """
    query, query_labels = torch.as_tensor(query), as_labels(query_labels, "query labels")
    values = []
    for rows in _query_blocks(query, bits, 256, max_bytes):
        items, hits = hamming_histograms(
            query[rows], query_labels[rows], reference, reference_labels,
            ref_includes_query, bits=bits, max_bytes=max_bytes, query_start=rows.start,
            relevance=relevance, exclude=exclude_rows(exclude, rows),
        )  # fmt: skip
        values.append(
            tie_aware_average_precision(
                items, hits, k, normalizer=normalizer, tie_order=tie_order
            )
        )
    return mean_over_queries(torch.cat(values), empty=empty)


def _ratio_at_cut(
    n: Tensor,
    h: Tensor,
    before_n: Tensor,
    before_h: Tensor,
    m: Tensor,
    blocks: Tensor,
    order: TieOrder,
    start: Tensor | None = None,
    worth: Tensor | None = None,
) -> Tensor:
    """AP@k over the hits retrieved, whose number t in the cut tie depends on the order.

    `start` stands for the hits before a tie where these have another worth than 1.
    """
    start = before_h if start is None else start
    worth = torch.ones_like(n) if worth is None else worth
    # The last tie that k reaches: whole (then t = h) or cut.
    reached = (m > 0) * torch.arange(1, n.shape[1] + 1, device=n.device)
    last = reached.argmax(1, keepdim=True)
    n, h, before_n, before_h, m, own, start, worth = (
        x.gather(1, last) for x in (n, h, before_n, before_h, m, blocks, start, worth)
    )
    above = blocks.sum(1, keepdim=True) - own
    fewest, most = (m - (n - h)).clamp(min=0), torch.minimum(h, m)
    if len(n) == 0:
        return n.new_zeros(0)
    width = int((most - fewest).max()) + 1
    ties = torch.stack([n, h, before_n, before_h, m, above, fewest, most, start, worth])
    step = max(_GRID_CELLS // width, 1)
    return torch.cat([_ratio_over_t(part, width, order) for part in ties.split(step, 1)])


def _ratio_over_t(ties: Tensor, width: int, order: TieOrder) -> Tensor:
    n, h, before_n, before_h, m, above, fewest, most, start, worth = ties
    offset = torch.arange(width, dtype=torch.float64, device=n.device)
    t = fewest + offset
    possible = t <= most
    # Given t, the first m items of the tie are themselves a tie of m items and t hits.
    block = worth * _sum_of_block(m, t.minimum(m), before_n, start, m, order)
    ratio = (above + block) / (before_h + t).clamp(min=1)
    if order == "best":
        return ratio.masked_fill(~possible, -torch.inf).amax(1)
    if order == "worst":
        return ratio.masked_fill(~possible, torch.inf).amin(1)
    # P(t + 1) / P(t) of the hypergeometric distribution, summed up in logarithms.
    ratio_up = (h - t) * (m - t) / ((t + 1) * (n - h - m + t + 1))
    log_p = torch.where(t < most, ratio_up, 1.0).log().cumsum(1).roll(1, 1)
    log_p[:, 0] = 0
    p = torch.softmax(log_p.masked_fill(~possible, -torch.inf), 1)
    return (p * ratio).sum(1)
