r"""Retrieval metrics of Hamming rankings, exact in the presence of ties.

Integer distances tie, and a metric that breaks ties by database order measures that order.
Here every metric is a function of per-query histograms (see `hamming`): either it does not
depend on the order of tied items at all, or it is the expectation over all their orders.

Words used below, for one query: n_d and h_d are the items and the relevant items ("hits")
at distance d; N_d and H_d are those at smaller distances; R is the number of all hits.
A query without any relevant item has no rank to judge. The one rule about it: its value is
NaN, and means leave it out (empty="skip", as PML does) or count it as 0 (empty="zero").

`conventional_average_precision` alone needs ranked lists: it is there for comparison.
"""

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

from .hamming import MAX_BYTES, grade_histograms, hamming_histograms, pair_counter
from .similarity import Relevance

Normalizer = Literal["retrieved", "relevant", "min"]
TieOrder = Literal["expected", "best", "worst"]
Gain = Literal["exponential", "linear"]
Empty = Literal["skip", "zero"]

# Below torch's limit of 2^15 an operation stays on one thread, and 256 KB in its cache. The
# many short steps of AP, spread over two threads of a busy machine, took 40 times as long.
_BLOCK_CELLS = 2**15 - 1
_GRID_CELLS = 2**18  # bounds the temporaries of the one tie of a query that needs a sum


def tie_aware_average_precision(
    items: Tensor,
    hits: Tensor,
    k: int | None = None,
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
    _check_option("normalizer", normalizer, get_args(Normalizer))
    _check_option("tie_order", tie_order, get_args(TieOrder))
    if k is not None:
        _check_positive("k", k)
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


def mean_average_precision(
    q: Tensor,
    q_labels: Tensor,
    r: Tensor,
    r_labels: Tensor,
    k: int | None = None,
    normalizer: Normalizer = "retrieved",
    ref_includes_query: bool = False,
    tie_order: TieOrder = "expected",
    bits: int | None = None,
    max_bytes: int = MAX_BYTES,
    empty: Empty = "skip",
    relevance: Relevance | None = None,
) -> float:
    r"""Mean average precision of a Hamming ranking, over all orders of tied items.

    Formula:  mAP = mean of `tie_aware_average_precision` over the queries with R > 0.

    Args:
        q: query codes, -1 and +1, or packed uint8.
        q_labels: class ids or multi-hot rows; items are relevant that share a label.
        r: database codes, in the same form.
        r_labels: labels of the database, in the same form.
        k: number of ranks that count; None for all (mAP@all).
        normalizer: "retrieved" (hashing papers), "relevant" (PML) or "min".
        ref_includes_query: the database begins with the queries; none finds itself.
        tie_order: "expected", "best" or "worst".
        bits: code length K in bits; required for packed codes only.
        max_bytes: bound on memory beyond the arguments, at least 2^20.
        empty: what a query without relevant items does to the mean.
        relevance: see `hamming.hamming_histograms`; None for shared labels.

    Shapes:   q (Q, K), r (N, K), labels (Q,) and (N,) or (Q, C) and (N, C).
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
    q, q_labels, values = torch.as_tensor(q), torch.as_tensor(q_labels), []
    for rows in _query_blocks(q, bits, 256, max_bytes):
        items, hits = hamming_histograms(
            q[rows], q_labels[rows], r, r_labels, ref_includes_query, bits, max_bytes,
            rows.start, relevance,
        )  # fmt: skip
        values.append(tie_aware_average_precision(items, hits, k, normalizer, tie_order))
    return mean_over_queries(torch.cat(values), empty)


def conventional_average_precision(
    q: Tensor,
    q_labels: Tensor,
    r: Tensor,
    r_labels: Tensor,
    k: int | None = None,
    normalizer: Normalizer = "retrieved",
    ref_includes_query: bool = False,
    bits: int | None = None,
    max_bytes: int = MAX_BYTES,
    query_start: int = 0,
    relevance: Relevance | None = None,
) -> Tensor:
    r"""Average precision of each query as papers compute it: ties in database order.

    Formula:  AP@k of `tie_aware_average_precision` for one order: items by (d, n), that is
              a stable sort by distance.

    For comparison with published numbers only. The value depends on how the database is
    sorted: on a database sorted by class it is optimistic for the first classes.

    Args:
        q: query codes, -1 and +1, or packed uint8.
        q_labels: class ids or multi-hot rows; items are relevant that share a label.
        r: database codes, in the same form.
        r_labels: labels of the database, in the same form.
        k: number of ranks that count; None for all (AP@all).
        normalizer: "retrieved" (hashing papers), "relevant" (PML) or "min".
        ref_includes_query: the database holds the queries, from item `query_start` on;
            none finds itself.
        bits: code length K in bits; required for packed codes only.
        max_bytes: bound on memory beyond the arguments, at least 2^20; but the list of one
            query takes 64 bytes an item in any case.
        query_start: see `ref_includes_query`.
        relevance: see `hamming.hamming_histograms`; None for shared labels.

    Shapes:   as `mean_average_precision` -> (Q,) float64.
    Returns:  values in [0, 1], NaN for a query without relevant items; between the "worst"
              and the "best" of `tie_aware_average_precision`, and equal to it without ties.
    Raises:   ValueError: as `mean_average_precision`.
    Source:   evaluation code of the hashing literature (one argsort a query).
              Differs: the sort is stable; theirs leaves ties to the sorting routine.
    """
    _check_option("normalizer", normalizer, get_args(Normalizer))
    if k is not None:
        _check_positive("k", k)
    counter = pair_counter(
        q,
        q_labels,
        r,
        r_labels,
        ref_includes_query,
        bits,
        max_bytes,
        query_start,
        relevance,
    )
    size = len(counter.r)
    ranks = torch.arange(1, size + 1, device=counter.q.device, dtype=torch.float64)
    step = max(max_bytes // (64 * max(size, 1)), 1)
    values = [ranks.new_zeros(0)]
    for start in range(0, len(counter.q), step):
        rows = slice(start, min(start + step, len(counter.q)))
        distances, relevant = counter.distances(rows), counter.relevant(rows)
        if ref_includes_query:
            i = torch.arange(rows.stop - start, device=distances.device)
            distances[i, query_start + start + i] = torch.inf  # sorted to the end
            relevant[i, query_start + start + i] = False
        total = relevant.sum(1)
        relevant = relevant.gather(1, distances.sort(dim=1, stable=True).indices)[:, :k]
        found = relevant.sum(1)
        precisions = relevant.cumsum(1) / ranks[:k]
        least = total.clamp(max=size if k is None else k)
        z = {"retrieved": found, "relevant": total, "min": least}[normalizer]
        ap = (precisions * relevant).sum(1) / z.clamp(min=1)
        values.append(torch.where(total > 0, ap, torch.nan))
    return torch.cat(values)


def precision_at_k(items: Tensor, hits: Tensor, k: int) -> Tensor:
    r"""Share of relevant items among the first k, in expectation over all orders of ties.

    Formula:  P@k = sum over d of m_d h_d / n_d / min(k, N), where m_d items of distance d
              are among the first k: m_d = min(n_d, max(k - N_d, 0)).

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.
        k: number of ranks.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in [0, 1]; NaN where R = 0.
    Raises:   ValueError: as `tie_aware_average_precision`.
    Source:   McSherry and Najork, ECIR 2008.  Differs: a database of fewer than k items is
              judged as a whole.

    Example:
        >>> precision_at_k(torch.tensor([[1, 2]]), torch.tensor([[1, 1]]), k=2)
        tensor([0.7500], dtype=torch.float64)
    """
    found = _hits_at_k(items, hits, k)
    retrieved = items.sum(1).clamp(min=1, max=k)
    return torch.where(hits.sum(1) > 0, found / retrieved, torch.nan)


def recall_at_k(items: Tensor, hits: Tensor, k: int) -> Tensor:
    r"""Share of all relevant items among the first k, in expectation over orders of ties.

    Formula:  R@k = sum over d of m_d h_d / n_d / R, with m_d of `precision_at_k`.

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.
        k: number of ranks.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in [0, 1]; NaN where R = 0.
    Raises:   ValueError: as `tie_aware_average_precision`.
    Source:   McSherry and Najork, ECIR 2008.
              Differs: nearest-neighbour papers call "recall@k" whether any of the first k
              is relevant; this is the share of the relevant items.
    """
    found = _hits_at_k(items, hits, k)
    relevant = hits.sum(1)
    return torch.where(relevant > 0, found / relevant, torch.nan)


def tie_aware_reciprocal_rank(
    items: Tensor, hits: Tensor, tie_order: TieOrder = "expected"
) -> Tensor:
    r"""One over the rank of the first relevant item, over all orders of tied items.

    Formula:  RR = 1 / rank. If the nearest hits are h of the n items of a tie behind N
              items, the first one stands at place p of the tie with probability
              P(p) = C(n - p, h - 1) / C(n, h), and E[RR] = sum over p of P(p) / (N + p).

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.
        tie_order: "expected" over all orders, or the "best" or "worst" of them.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in (0, 1]; NaN where R = 0. Their mean is the MRR.
    Raises:   ValueError: as `tie_aware_average_precision`.
    Source:   McSherry and Najork, ECIR 2008.  Differs: no.

    Example:
        >>> tie_aware_reciprocal_rank(torch.tensor([[1, 2]]), torch.tensor([[0, 1]]))
        tensor([0.4167], dtype=torch.float64)
    """
    _check_histograms(items, hits)
    _check_option("tie_order", tie_order, get_args(TieOrder))
    first = (hits > 0).int().argmax(1, keepdim=True)
    before = (items.cumsum(1) - items).gather(1, first).double()
    n, h = (x.gather(1, first).double() for x in (items, hits))
    if tie_order == "best":
        value = 1 / (before + 1)
    elif tie_order == "worst":
        value = 1 / (before + n - h + 1)
    elif len(n) == 0:
        value = before
    else:
        width = int((n - h).max()) + 1
        ties = torch.stack([n, h, before]).split(max(_GRID_CELLS // width, 1), 1)
        value = torch.cat([_expected_reciprocal(part, width) for part in ties])
    return torch.where(h > 0, value, torch.nan).squeeze(1)


def _expected_reciprocal(ties: Tensor, width: int) -> Tensor:
    n, h, before = ties
    p = torch.arange(1, width + 1, dtype=torch.float64, device=n.device)
    left = n - p  # items of the tie behind place p
    going_on = ((left - h + 1) / left.clamp(min=1)).clamp(min=0)  # P(p + 1) / P(p)
    at_first = h / n.clamp(min=1)
    probability = torch.cat([at_first, at_first * going_on[:, :-1].cumprod(1)], 1)
    return (probability / (before + p)).sum(1, keepdim=True)


def precision_within_radius(
    items: Tensor, hits: Tensor, radius: int = 2, empty: float = 0.0
) -> Tensor:
    r"""Share of relevant items among all items within a Hamming radius (inclusive).

    Formula:  P_r = sum over d <= r of h_d / sum over d <= r of n_d.

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.
        radius: r >= 0, in bits, inclusive (faiss' range_search is exclusive).
        empty: the value of a query with no item within the radius.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in [0, 1]; does not depend on the order of ties.
    Raises:   ValueError: as `tie_aware_average_precision`; radius < 0.
    Source:   hash lookup of the hashing literature.  Differs: no; 0 for an empty ball is
              the convention of thulab/DeepHash.
    """
    near_items, near_hits = _within(items, hits, radius)
    return torch.where(near_items > 0, near_hits / near_items.clamp(min=1), empty)


def recall_within_radius(items: Tensor, hits: Tensor, radius: int = 2) -> Tensor:
    r"""Share of all relevant items that lie within a Hamming radius (inclusive).

    Formula:  R_r = sum over d <= r of h_d / R.

    Args:
        items: number of database items at each distance (checked against `hits`).
        hits: number of relevant items at each distance.
        radius: r >= 0, in bits, inclusive.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in [0, 1]; NaN where R = 0.
    Raises:   ValueError: as `precision_within_radius`.
    Source:   hash lookup of the hashing literature.  Differs: no.
    """
    _, near_hits = _within(items, hits, radius)
    relevant = hits.sum(1).double()
    return torch.where(relevant > 0, near_hits / relevant, torch.nan)


def f1_within_radius(items: Tensor, hits: Tensor, radius: int = 2) -> Tensor:
    r"""Harmonic mean of precision and recall within a Hamming radius (inclusive).

    Formula:  F1_r = 2 P_r R_r / (P_r + R_r)
              = 2 sum over d <= r of h_d / (sum over d <= r of n_d + R).

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.
        radius: r >= 0, in bits, inclusive.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in [0, 1]; NaN where R = 0; 0 for an empty ball.
    Raises:   ValueError: as `precision_within_radius`.
    Source:   van Rijsbergen 1979.  Differs: no; it is the mean over queries of F1, and not
              the F1 of mean precision and mean recall.
    """
    near_items, near_hits = _within(items, hits, radius)
    relevant = hits.sum(1)
    value = 2 * near_hits / (near_items + relevant).clamp(min=1)
    return torch.where(relevant > 0, value, torch.nan)


def precision_recall_curve(
    items: Tensor, hits: Tensor, empty: Empty = "skip"
) -> tuple[Tensor, Tensor]:
    r"""Precision and recall at every Hamming radius 0..K, averaged over queries.

    Formula:  P_r and R_r of `precision_within_radius` and `recall_within_radius`; the mean
              of each over the queries with R > 0.

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.
        empty: leave queries with R = 0 out, or count them as 0 ("zero").

    Shapes:   items, hits (Q, K + 1) int64 -> (K + 1,), (K + 1,) float64.
    Returns:  (precision, recall), one point a radius. A query whose ball is empty is left
              out of the mean precision at that radius; NaN where every ball is empty.
    Raises:   ValueError: as `tie_aware_average_precision`, or no query with R > 0.
    Source:   hash lookup of the hashing literature.  Differs: empty balls are left out
              here, since a curve with zeros at small radii says how many balls are empty
              and not how precise the others are.
    """
    _check_histograms(items, hits)
    _check_option("empty", empty, get_args(Empty))
    judged = hits.sum(1) > 0
    if not bool(judged.any()):
        raise ValueError("no query has a relevant item: there is no curve to draw")
    kept = judged if empty == "skip" else torch.ones_like(judged)
    n, h = items[kept].double().cumsum(1), hits[kept].double().cumsum(1)
    precision = torch.where(n > 0, h / n.clamp(min=1), torch.nan).nanmean(0)
    return precision, (h / h[:, -1:].clamp(min=1)).mean(0)


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


def mean_over_queries(values: Tensor, empty: Empty = "skip") -> float:
    """Mean over the queries; those without a relevant item are NaN.

    Args:
        values: (Q,) one value a query.
        empty: leave NaN out ("skip"), or count it as 0 ("zero").

    Returns:
        The mean; NaN if nothing is left to average over.

    Raises:
        ValueError: there are no queries at all, or another `empty`.
    """
    _check_option("empty", empty, get_args(Empty))
    if len(values) == 0:
        raise ValueError("there are no queries to average over (Q = 0)")
    return float(values.nan_to_num(nan=0.0).mean() if empty == "zero" else values.nanmean())


def _query_blocks(
    q: Tensor, bits: int | None, bytes_of_cell: int, max_bytes: int
) -> Iterator[slice]:
    """Blocks of queries whose metric stays within the budget; one empty block for Q = 0."""
    cells = (q.shape[-1] if bits is None else bits) + 1
    step = max(max_bytes // (bytes_of_cell * cells), 1)
    for start in range(0, max(len(q), 1), step):
        # The last block is open, so that labels too many are noticed.
        yield slice(start, start + step if start + step < len(q) else None)


def _hits_at_k(items: Tensor, hits: Tensor, k: int) -> Tensor:
    """Expected number of hits among the first k."""
    _check_histograms(items, hits)
    _check_positive("k", k)
    m = (k - (items.cumsum(1) - items)).clamp(min=0).minimum(items)
    return (m * hits / items.clamp(min=1).double()).sum(1)


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


def _ratio_at_cut(
    n: Tensor,
    h: Tensor,
    before_n: Tensor,
    before_h: Tensor,
    m: Tensor,
    blocks: Tensor,
    order: TieOrder,
) -> Tensor:
    """AP@k over the hits retrieved, whose number t in the cut tie depends on the order."""
    # The last tie that k reaches: whole (then t = h) or cut.
    reached = (m > 0) * torch.arange(1, n.shape[1] + 1, device=n.device)
    last = reached.argmax(1, keepdim=True)
    n, h, before_n, before_h, m, own = (
        x.gather(1, last) for x in (n, h, before_n, before_h, m, blocks)
    )
    above = blocks.sum(1, keepdim=True) - own
    fewest, most = (m - (n - h)).clamp(min=0), torch.minimum(h, m)
    if len(n) == 0:
        return n.new_zeros(0)
    width = int((most - fewest).max()) + 1
    ties = torch.stack([n, h, before_n, before_h, m, above, fewest, most])
    step = max(_GRID_CELLS // width, 1)
    return torch.cat([_ratio_over_t(part, width, order) for part in ties.split(step, 1)])


def _ratio_over_t(ties: Tensor, width: int, order: TieOrder) -> Tensor:
    n, h, before_n, before_h, m, above, fewest, most = ties
    offset = torch.arange(width, dtype=torch.float64, device=n.device)
    t = fewest + offset
    possible = t <= most
    # Given t, the first m items of the tie are themselves a tie of m items and t hits.
    block = _sum_of_block(m, t.minimum(m), before_n, before_h, m, order)
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


def _harmonic(a: Tensor, m: Tensor) -> Tensor:
    r"""Sum over p = 1..m of 1 / (a + p), to full precision for large a as well.

    A difference of two harmonic numbers of size ln a loses digits that the callers then
    multiply by a. With x = a + 1 it is ψ(x + m) - ψ(x); the logarithms of ψ's expansion
    combine to log1p(m / x), and what remains is small.
    """
    x = a + 1
    far = torch.log1p(m / x) + _digamma_tail(x + m) - _digamma_tail(x)
    near = torch.digamma(x + m) - torch.digamma(x)
    return torch.where(m > 0, torch.where(x < 16, near, far), 0.0)


def _digamma_tail(x: Tensor) -> Tensor:
    """ψ(x) - ln x for x >= 16 by its asymptotic series (error below 1e-16)."""
    y = x.clamp(min=16).pow(-2)
    series = 1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132)))
    return -0.5 / x.clamp(min=16) - y * series


def _within(items: Tensor, hits: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    _check_histograms(items, hits)
    if radius < 0:
        raise ValueError(f"radius must be >= 0 bits, got {radius}")
    ball = slice(0, radius + 1)
    return items[:, ball].sum(1).double(), hits[:, ball].sum(1).double()


def _check_histograms(items: Tensor, hits: Tensor) -> None:
    if items.ndim != 2 or items.shape != hits.shape:
        raise ValueError(
            "items and hits must both have shape (Q, K + 1), got "
            f"{tuple(items.shape)} and {tuple(hits.shape)}"
        )
    if bool(((hits < 0) | (hits > items)).any()):
        raise ValueError("hits must lie between 0 and items at every distance")


def _check_option(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, or None for all, got {value}")
