"""Distances in bits, and what every retrieval metric needs of them: histograms.

A metric that sees only how many items, of which grade, lie at each distance cannot depend
on the order of the database. That is why `ranking` takes histograms and no ranked lists.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ..labels.checks import as_labels, check_label_pair, check_labels
from ..labels.relevance import Relevance
from ..runtime.options import check_count, check_flag
from ..runtime.renamed import SIDES, renamed
from .blocks import Blocks, thread_count, threads
from .class_counter import class_counts
from .distance import _BLOCK_PAIRS, _both_sides
from .exclusion import Exclude, as_exclusion
from .pair_counter import PairCounter
from .products import is_large, product_of, torch_product

MAX_BYTES = 2**28
"""Default bound on memory beyond the result: 256 MB, of which far less is in use."""
_BLOCK_REFERENCES = 2**14
# Joint histograms of three queries are large: to sum them up took 18 % of the time with
# 2^15 items a block, and 12 % with 2^16.
_BLOCK_WIDE = 2**16
_WIDE_PAIRS = 2**22


@renamed(**SIDES)
def hamming_histograms(
    query: Tensor,
    query_labels: Tensor,
    reference: Tensor,
    reference_labels: Tensor,
    ref_includes_query: bool = False,
    *,
    bits: int | None = None,
    max_bytes: int = MAX_BYTES,
    query_start: int = 0,
    relevance: Relevance | None = None,
    exclude: Exclude | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Count items and relevant items at each distance from each query.

    Formula:  items_qd = |{n: d(q, r_n) = d}|,  hits_qd = |{n: d(q, r_n) = d, n relevant}|;
              n is relevant to q if they share a label, or as `relevance` says.

    Args:
        query: query codes, -1 and +1, or packed uint8.
        query_labels: class ids, or rows of 0 and 1; any labels that `relevance`
            understands.
        reference: database codes, in the same form; may lie on another device.
        reference_labels: labels of the database, in the same form as `query_labels`.
        ref_includes_query: the database holds the queries, from item `query_start` on;
            each query then leaves itself out.
        bits: code length K in bits; required for packed codes only.
        max_bytes: bound on memory beyond arguments and result, at least 2^20.
        query_start: see `ref_includes_query`.
        relevance: function of two blocks of labels -> (Q, N) integers, relevant if >= 1;
            None for shared labels.
        exclude: pairs to leave out: a mask (Q, N) of bool, or a tuple of group ids (Q,)
            and (N,), of which equal ones are left out. Neither items nor hits.

    Shapes:   query (Q, K), reference (N, K), labels (Q,) and (N,) or (Q, C) and (N, C)
              -> items (Q, K + 1), hits (Q, K + 1), int64. Q = 0 and N = 0 are allowed.
    Returns:  (items, hits), exact, on the device of `query`.
    Raises:   ValueError: as `hamming_distance`; labels that do not fit the codes or each
              other; ref_includes_query although the database does not hold the queries
              there; max_bytes below 2^20.
    Source:   He et al., CVPR 2018, arXiv:1705.08562 (histograms of AP with ties).
              Differs: no.
    """
    count = thread_count(query, relevance)
    with threads(count, _is_large(query, reference)) as run:
        counter = pair_counter(
            query, query_labels, reference, reference_labels, ref_includes_query, bits,
            max_bytes, query_start, relevance, threads=count,
        )  # fmt: skip
        left_out = as_exclusion(exclude, len(counter.q), len(counter.r))
        items = counter.zeros(len(counter.q))
        hits = torch.zeros_like(items)
        for rows in counter.query_blocks():
            if counter.by_class:
                items[rows], hits[rows] = class_counts(counter, rows, run)
            else:
                counts = counter.grade_counts(rows, run)
                items[rows], hits[rows] = counts.sum(2), counts[:, :, 1:].sum(2)
    if ref_includes_query:
        items[:, 0] -= 1
        hits[:, 0] -= counter.own_grades().clamp(max=1)
    if left_out is not None:
        own = query_start if ref_includes_query else None
        counts = left_out.counts(counter, 2, own)
        items -= counts.sum(2)
        hits -= counts[:, :, 1]
    return items, hits


@renamed(**SIDES)
def grade_histograms(
    query: Tensor,
    query_labels: Tensor,
    reference: Tensor,
    reference_labels: Tensor,
    ref_includes_query: bool = False,
    *,
    bits: int | None = None,
    binary: bool = False,
    max_bytes: int = MAX_BYTES,
    query_start: int = 0,
    relevance: Relevance | None = None,
    grades: int | None = None,
    exclude: Exclude | None = None,
) -> Tensor:
    r"""Count the items of each relevance grade at each distance from each query.

    Formula:  counts_qdg = |{n: d(q, r_n) = d, number of labels shared by q and n = g}|,
              or the grade g that `relevance` gives.

    Args:
        query: query codes, -1 and +1, or packed uint8.
        query_labels: class ids, or rows of 0 and 1; any labels that `relevance`
            understands.
        reference: database codes, in the same form; may lie on another device.
        reference_labels: labels of the database, in the same form as `query_labels`.
        ref_includes_query: the database holds the queries, from item `query_start` on;
            each query then leaves itself out.
        bits: code length K in bits; required for packed codes only.
        binary: cut grades at 1 (relevant or not).
        max_bytes: bound on memory beyond arguments and a few times the result, at least
            2^20.
        query_start: see `ref_includes_query`.
        relevance: function of two blocks of labels -> (Q, N) grades, integers >= 0; None
            for the number of shared labels. `labels.jaccard` gives fractions: scale and
            round it.
        grades: G, one more than the largest grade of `relevance`; required with it.
        exclude: see `hamming_histograms`.

    Shapes:   as `hamming_histograms` -> (Q, K + 1, G) int64; without `relevance`, G - 1 is
              the largest number of labels that a query has, at least 1.
    Returns:  counts.
    Raises:   ValueError: as `hamming_histograms`; relevance without grades, or one that
              returns anything but grades.
    Source:   He et al., CVPR 2018, arXiv:1705.08562.  Differs: no.

    Example:
        >>> import torch
        >>> from pml_nmlayer.labels import jaccard
        >>> codes, y = torch.tensor([[1, 1], [1, -1]]), torch.tensor([[1, 1, 0], [0, 1, 1]])
        >>> thirds = lambda a, b: (3 * jaccard(a, b)).round()
        >>> grade_histograms(codes[:1], y[:1], codes, y, relevance=thirds, grades=4)
        tensor([[[0, 0, 0, 1],
                 [0, 1, 0, 0],
                 [0, 0, 0, 0]]])
    """
    if relevance is not None and grades is None and not binary:
        raise ValueError("relevance= needs grades=, one more than the largest grade")
    if relevance is None and grades is not None:
        raise ValueError("grades= goes with relevance=; shared labels need none")
    check_flag("binary", binary)
    sides = query, query_labels, reference, reference_labels, ref_includes_query
    if binary:
        items, hits = hamming_histograms(
            *sides, bits=bits, max_bytes=max_bytes, query_start=query_start,
            relevance=relevance, exclude=exclude,
        )  # fmt: skip
        return torch.stack([items - hits, hits], 2)
    count = thread_count(query, relevance)
    with threads(count, _is_large(query, reference)) as run:
        counter = pair_counter(
            *sides, bits, max_bytes, query_start, relevance, grades, count
        )
        left_out = as_exclusion(exclude, len(counter.q), len(counter.r))
        counts = counter.zeros(len(counter.q), counter.levels)
        for rows in counter.query_blocks():
            if counter.by_class:
                items, hits = class_counts(counter, rows, run)
                counts[rows, :, 0], counts[rows, :, 1] = items - hits, hits
            else:
                counts[rows] = counter.grade_counts(rows, run)
    if ref_includes_query:
        everyone = torch.arange(len(counts), device=counts.device)
        counts[everyone, 0, counter.own_grades()] -= 1
    if left_out is not None:
        own = query_start if ref_includes_query else None
        counts -= left_out.counts(counter, counter.levels, own)
    return counts


def _is_large(query: Tensor, reference: Tensor) -> bool:
    return is_large(torch.as_tensor(query), len(torch.as_tensor(reference)))


def pair_counter(
    q: Tensor,
    q_labels: Tensor,
    r: Tensor,
    r_labels: Tensor,
    ref_includes_query: bool,
    bits: int | None,
    max_bytes: int,
    query_start: int,
    relevance: Relevance | None,
    grades: int | None = None,
    threads: int = 1,
) -> PairCounter:
    """Check everything that a user can get wrong, before anything is counted.

    Args:
        q: as all others, see `grade_histograms`.
        q_labels: labels of the queries.
        r: database codes.
        r_labels: labels of the database.
        ref_includes_query: the database holds the queries.
        bits: code length.
        max_bytes: budget.
        query_start: where the queries are in the database.
        relevance: a user's grades.
        grades: their number.
        threads: how many will share the budget.
    """
    check_count("max_bytes", max_bytes)
    if max_bytes < 2**20:
        raise ValueError(f"max_bytes must be at least 2^20 (1 MB), got {max_bytes}")
    check_count("query_start", query_start, least=0)
    check_flag("ref_includes_query", ref_includes_query)
    check_count("grades", grades, least=2, none="shared labels, or binary=True")
    if relevance is not None and not callable(relevance):
        raise TypeError(f"relevance must be a function of labels, got {relevance!r}")
    q, r, bits = _both_sides(q, r, bits)
    q_labels = as_labels(q_labels, "query labels")
    r_labels = as_labels(r_labels, "database labels")
    for labels, side, name in (
        (q_labels, q, "query labels"),
        (r_labels, r, "database labels"),
    ):
        if relevance is None:
            check_labels(labels, len(side), name, read=True)
        elif len(labels) != len(side):
            raise ValueError(f"got {len(side)} items but {len(labels)} {name}")
    if relevance is None:
        check_label_pair(q_labels, r_labels, read=False)
    q_labels = q_labels.to(q.device)
    if ref_includes_query:
        own = slice(query_start, query_start + len(q))
        _check_equal(r[own], q, own, "codes")
        _check_equal(r_labels[own], q_labels, own, "labels")
    counter = PairCounter(
        q,
        q_labels,
        r,
        r_labels,
        bits,
        relevance,
        grades,
        Blocks(1, 1, 1, 1, 1, 1, 1, torch_product),
    )
    return replace(counter, blocks=_blocks(counter, max_bytes, threads))


def _blocks(counter: PairCounter, max_bytes: int, threads: int) -> Blocks:
    """Divide a budget: a quarter each for queries, items, sorted classes and pairs."""
    share = max_bytes // 4
    # Numbers that stand for one item in a product: bits, labels, a constant.
    width = counter.bits + counter.labels[:1].numel() + 1
    of_query = 24 * width + 24 * counter.levels * (counter.bits + 1)
    of_item = 12 * width  # while codes are unpacked
    of_pair = 16 if counter.relevance is None else 48
    on_cpu = counter.q.device.type == "cpu"
    # A device waits for each count, so that it gets as much at once as the budget allows.
    most = _BLOCK_PAIRS if on_cpu else share
    return Blocks(
        queries=max(share // of_query, 1),
        references=max(min(_BLOCK_REFERENCES, share // (of_item * threads)), 1),
        sorted=share // 64,
        pairs=max(min(most, share // (of_pair * threads)), 1),
        threads=threads,
        wide=max(min(_BLOCK_WIDE, share // (5 * width * threads)), 1),
        wide_pairs=max(min(_WIDE_PAIRS, share // (8 * threads)), 1),
        product=product_of(counter.q, len(counter.r)),
    )


def _check_equal(part: Tensor, wanted: Tensor, own: slice, what: str) -> None:
    if not torch.equal(part.to(wanted.device), wanted):
        where = f"first {own.stop}" if own.start == 0 else f"{own.start}:{own.stop}"
        raise ValueError(
            f"ref_includes_query=True, but the {where} {what} of the database are not "
            "those of the queries"
        )
