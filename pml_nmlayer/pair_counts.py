"""Counting pairs by distance and grade, block by block: what `hamming` is made of.

How it was chosen: nanoseconds a pair of 48 bits, 200 to 1,000 queries x 59,000 items, one
thread of a Xeon at 2.8 GHz (Ice Lake) that other work shared:

- matrix product, then bincount: 4.3; the same with two queries in one number: 1.6 to 2.0;
- NumPy's bitwise_count of uint64, then bincount: 3.0 (and NumPy 2 or newer);
- faiss, IndexBinaryFlat.search with k = 100: 8.0, and a list of k is no histogram;
- numba, XOR and popcount with four histograms a query: 1.0, for another dependency.

The product wins what torch alone can win: it runs on every device, takes labels along (see
`hamming`), and a number that holds two distances halves both the product and the count.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .codes import unpack_codes
from .similarity import Relevance, relevance_grades, shared_label

# Two queries share a number only where their joint table is small and well filled. At 128
# bits (16,641 cells) both ways took the same time, at 256 bits two in one were slower.
_JOINT_CELLS = 2**14
_TABLE_CELLS = 2**18  # counters of a block of queries: 2 MB stay in the second-level cache


Run = Callable[..., Iterable[Any]]
"""`map`, or one that has threads."""


class Blocks(NamedTuple):
    """How much is handled at once."""

    queries: int
    references: int
    sorted: int  # items of the database whose classes are sorted
    pairs: int  # by each thread
    threads: int


def thread_count(q: Tensor, relevance: Relevance | None) -> int:
    """Tell how many threads count: as many as torch has for an operation on the CPU.

    Args:
        q: query codes; counting happens on their device.
        relevance: a user's function, which is called from one thread only.
    """
    on_cpu = torch.as_tensor(q).device.type == "cpu"
    return torch.get_num_threads() if on_cpu and relevance is None else 1


@contextmanager
def threads(count: int) -> Iterator[Run]:
    """Offer a `map` that runs on `count` threads, of one thread an operation.

    bincount has one thread in any case, and threads that meet after each of many short
    operations are as slow as the last of them: with other work on the cores that took 20
    times as long as threads that meet a few times in all.

    Args:
        count: number of threads.
    """
    if count == 1:
        yield map
        return
    torch.set_num_threads(1)  # for this thread, and new ones begin with it
    try:
        with ThreadPoolExecutor(count) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(count)


@dataclass(frozen=True)
class PairCounter:
    """Two checked sides, and how to count their pairs. See `hamming` for what is counted.

    Args:
        q: query codes, -1 and +1 or packed; counting happens on their device.
        labels: of the queries, on the same device.
        r: database codes, read block by block: packed ones are never unpacked as a whole.
        ref_labels: of the database.
        bits: K.
        relevance: a user's grades; None for shared labels.
        grades: their number G; None for shared labels, or to cut grades at 1.
        blocks: sizes.
    """

    q: Tensor
    labels: Tensor
    r: Tensor
    ref_labels: Tensor
    bits: int
    relevance: Relevance | None
    grades: int | None
    blocks: Blocks

    @property
    def by_class(self) -> bool:
        """Whether labels are class ids, compared for equality."""
        return self.relevance is None and self.labels.ndim == 1

    @property
    def levels(self) -> int:
        """Number of grades G; of shared labels as many as a query has, and 0."""
        if self.grades is not None:
            return self.grades
        if self.relevance is not None or self.by_class or len(self.labels) == 0:
            return 2
        return max(int(self.labels.sum(1).max()), 1) + 1

    def query_blocks(self) -> Iterator[slice]:
        """Slices of the queries."""
        return _slices(0, len(self.q), self.blocks.queries)

    def zeros(self, count: int, *levels: int) -> Tensor:
        """Counters (Q, K + 1) or (Q, K + 1, G).

        Args:
            count: Q.
            levels: G or nothing.
        """
        shape = (count, self.bits + 1, *levels)
        return torch.zeros(shape, dtype=torch.int64, device=self.q.device)

    def own_grades(self) -> Tensor:
        """Grade of each query for itself."""
        if self.by_class:
            return torch.ones_like(self.labels, dtype=torch.int64)
        if self.relevance is None:
            return self.labels.sum(1).long()
        each = self.labels.split(64)
        graded = [relevance_grades(self.relevance, y, y, self.grades).diag() for y in each]
        return torch.cat(graded) if graded else self.labels.new_zeros(0).long()

    def class_counts(self, rows: slice, run: Run) -> tuple[Tensor, Tensor]:
        """Items without asking for classes; then hits, one class of the database at a time.

        Hits cost another 1 / C of the pairs for C equal classes. To carry the answer along
        with every pair would cost a comparison a pair, and twice as many counters.

        Args:
            rows: of the queries.
            run: from `threads`.
        """
        a = self._query_rows(rows, 1)
        items = self.zeros(len(a))
        for block in _slices(0, len(self.r), self.blocks.references):
            items += self._count_parts(a, self._columns(block), 1, run)
        return items, self._hits_by_class(a, _class_ids(self.labels[rows]), run)

    def _hits_by_class(self, a: Tensor, labels: Tensor, run: Run) -> Tensor:
        hits = self.zeros(len(a))
        classes, member = labels.unique(return_inverse=True)
        mine = member.argsort().split(torch.bincount(member).tolist())
        for span in _slices(0, len(self.r), self.blocks.sorted):
            ids, order = _class_ids(self.ref_labels[span].to(labels.device)).sort()
            first = torch.searchsorted(ids, classes).tolist()
            last = torch.searchsorted(ids, classes, right=True).tolist()
            items = [
                order[start:stop] + span.start
                for start, stop in zip(first, last, strict=True)
            ]
            queries = [a[members] for members in mine]
            found = run(self._count_items, queries, items)
            for members, counts in zip(mine, found, strict=True):
                hits[members] += counts
        return hits

    def _count_items(self, a: Tensor, items: Tensor) -> Tensor:
        counts = self.zeros(len(a))
        for block in items.split(self.blocks.references):
            counts += self._count(a, self._columns(block))
        return counts

    def grade_counts(self, rows: slice, run: Run) -> Tensor:
        """Counts (q, K + 1, G).

        Args:
            rows: of the queries.
            run: from `threads`.
        """
        levels = self.levels
        counts = self.zeros(rows.stop - rows.start, levels)
        if self.relevance is None:
            a = self._query_rows(rows, levels)
        for block in _slices(0, len(self.r), self.blocks.references):
            if self.relevance is None:
                columns = self._columns(block, self.ref_labels[block])
                found = self._count_parts(a, columns, levels, run)
            else:
                found = self._count_relevance(self.relevance, rows, block, levels)
            counts += found.view_as(counts)
        return counts

    def relevant(self, rows: slice) -> Tensor:
        """Which items are relevant: (q, N) bool, for those who need ranked lists.

        Args:
            rows: of the queries.
        """
        labels, ref_labels = self.labels[rows], self.ref_labels.to(self.q.device)
        if self.relevance is None:
            return shared_label(labels, ref_labels)
        return relevance_grades(self.relevance, labels, ref_labels, None) > 0

    def distances(self, rows: slice) -> Tensor:
        """Distances (q, N) in bits, as floats.

        Args:
            rows: of the queries.
        """
        q = self._floats(self.q, rows)
        parts = [
            distance(q, self._floats(self.r, block))
            for block in _slices(0, len(self.r), self.blocks.references)
        ]
        return torch.cat([q.new_zeros(len(q), 0), *parts], 1)

    def _count_relevance(
        self, relevance: Relevance, rows: slice, block: slice, levels: int
    ) -> Tensor:
        size = (self.bits + 1) * levels
        r = self._floats(self.r, block)
        ref_labels = self.ref_labels[block].to(self.q.device)
        found = []
        step = max(self.blocks.pairs // len(r), 1)
        both = zip(
            self._floats(self.q, rows).split(step),
            self.labels[rows].split(step),
            strict=True,
        )
        for codes, labels in both:
            graded = relevance_grades(relevance, labels, ref_labels, self.grades)
            place = torch.arange(len(codes), device=codes.device)[:, None] * size
            cells = distance(codes, r).long().mul_(levels).add_(graded).add_(place)
            found.append(torch.bincount(cells.flatten(), minlength=len(codes) * size))
        return torch.cat(found)

    def _count_parts(self, a: Tensor, b: Tensor, levels: int, run: Run) -> Tensor:
        """Each thread counts for its part of the queries."""
        size = max(-(-len(a) // self.blocks.threads), 1)
        return torch.cat([*run(lambda part: self._count(part, b, levels), a.split(size))])

    def _count(self, a: Tensor, b: Tensor, levels: int = 1) -> Tensor:
        return value_counts(a, b, (self.bits + 1) * levels, self.blocks.pairs)

    def _query_rows(self, rows: slice, levels: int) -> Tensor:
        """Rows a such that a times a column is d G + g, the number of a counter.

        d = (K - ⟨q, r⟩) / 2 and g = ⟨y, z⟩, so that one product serves both.
        """
        codes = self._floats(self.q, rows)
        parts = [codes * (-levels / 2)]
        if levels > 1:
            parts.append(self.labels[rows].float())
        constant = torch.full_like(codes[:, :1], self.bits * levels / 2)
        return torch.cat([*parts, constant], 1)

    def _columns(self, rows: slice | Tensor, labels: Tensor | None = None) -> Tensor:
        codes = self._floats(self.r, rows)
        parts = [codes]
        if labels is not None:
            parts.append(labels.to(codes.device).float())
        # A view: to lay columns out anew cost more than the product for few queries.
        return torch.cat([*parts, torch.ones_like(codes[:, :1])], 1).T

    def _floats(self, codes: Tensor, rows: slice | Tensor) -> Tensor:
        if isinstance(rows, Tensor):
            rows = rows.to(codes.device)
        block = codes[rows].to(self.q.device)
        return (
            unpack_codes(block, self.bits) if codes.dtype == torch.uint8 else block.float()
        )


def value_counts(a: Tensor, b: Tensor, bins: int, pairs: int) -> Tensor:
    r"""Count the values of each row of a product of integers, without keeping it.

    Formula:  counts_iv = |{n: (a b)_in = v}|.

    Two rows i and j share a number, (bins a_i + a_j) b, if their joint histogram is small:
    one product and one count then serve both.

    Args:
        a: rows; the last column is a constant, to which the place of a row's counters is
            added, so that one bincount counts for all rows.
        b: columns; the last row holds ones.
        bins: all values of a b are integers in 0..bins - 1.
        pairs: number of values held at once.

    Shapes:   a (Q, F), b (F, N) float32 -> (Q, bins) int64.
    Returns:  counts; exact, since all sums are multiples of ½ far below 2^23.
    Raises:   nothing.
    Source:   this package.  Differs: no.
    """
    count, width = len(a), bins
    fused = a.device.type == "cpu" and _products_are_exact()
    joint = fused and count > 1 and bins**2 <= min(_JOINT_CELLS, b.shape[1] // 2)
    if joint:
        a = torch.cat([a, a[-1:]]) if count % 2 else a
        a, width = a[0::2] * bins + a[1::2], bins**2
    if width > 2**22:
        a, b = a.double(), b.double()
    rows = max(min(pairs // max(b.shape[1], 1), _TABLE_CELLS // width), 1)
    tables = []
    # One buffer for all blocks: with fresh memory for each, two threads took 1.3 times
    # as long.
    buffer = torch.empty(min(rows, len(a)) * b.shape[1], dtype=torch.int32, device=a.device)
    products = torch.empty_like(buffer, dtype=a.dtype)
    for block in a.split(rows):
        size = len(block) * b.shape[1]
        cells = buffer[:size].copy_(_cells(block, b, width, fused, products[:size]))
        found = torch.bincount(cells, minlength=len(block) * width)
        found = found.view(-1, bins, bins if joint else 1)
        if joint:
            found = torch.stack([found.sum(2), found.sum(1)], 1)
        tables.append(found.view(-1, bins))
    return torch.cat(tables)[:count] if tables else a.new_zeros(0, bins).long()


def _cells(a: Tensor, b: Tensor, width: int, fused: bool, out: Tensor) -> Tensor:
    """Values of a block, each row's moved to its own counters; written to `out`."""
    place = torch.arange(len(a), device=a.device, dtype=a.dtype) * width
    constant = (a[:, -1] + place)[:, None]
    table = out.view(len(a), b.shape[1])
    with torch.autocast(a.device.type, enabled=False), torch.no_grad():
        if fused:
            torch.mm(torch.cat([a[:, :-1], constant], 1), b, out=table)
        else:
            # Small integers stay exact where a product rounds its inputs (TF32, bfloat16).
            torch.mm(a[:, :-1], b[:-1], out=table)
            table += constant
    return out


def _products_are_exact() -> bool:
    """Whether float32 products keep float32: settings of torch may round their inputs."""
    odd = torch.full((64, 64), 2.0**20 + 1)
    with torch.autocast("cpu", enabled=False):
        return bool((odd @ torch.eye(64) == odd).all())


def distance(q: Tensor, r: Tensor) -> Tensor:
    """Distances (Q, N) in bits, as floats.

    Args:
        q: float codes.
        r: float codes.
    """
    # Half precision would be wrong from 2,049 bits on, so autocast must not reach this.
    with torch.autocast(q.device.type, enabled=False):
        return (q @ r.T).sub_(q.shape[1]).mul_(-0.5)


def _class_ids(labels: Tensor) -> Tensor:
    """One dtype for both sides, in which equal labels stay equal and others different."""
    return labels.double() if labels.is_floating_point() else labels.long()


def _slices(start: int, stop: int, step: int) -> Iterator[slice]:
    for i in range(start, stop, step):
        yield slice(i, min(i + step, stop))
