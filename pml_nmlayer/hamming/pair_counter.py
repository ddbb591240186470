"""Count the pairs of queries and items by distance and grade, block by block."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..codes.packing import unpack_codes
from ..labels.relevance import Relevance, relevance_grades, shared_label, shared_label_count
from .blocks import Blocks, Run
from .counting import distance, value_counts


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
        return slices(0, len(self.q), self.blocks.queries)

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
        for block in slices(0, len(self.r), self.blocks.references):
            if self.relevance is None:
                columns = self.columns(block, self.ref_labels[block])
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
        q = self.floats(self.q, rows)
        parts = [
            distance(q, self.floats(self.r, block))
            for block in slices(0, len(self.r), self.blocks.references)
        ]
        return torch.cat([q.new_zeros(len(q), 0), *parts], 1)

    def _count_relevance(
        self, relevance: Relevance, rows: slice, block: slice, levels: int
    ) -> Tensor:
        size = (self.bits + 1) * levels
        r = self.floats(self.r, block)
        ref_labels = self.ref_labels[block].to(self.q.device)
        found = []
        step = max(self.blocks.pairs // len(r), 1)
        both = zip(
            self.floats(self.q, rows).split(step),
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
        bins = (self.bits + 1) * levels
        return value_counts(a, b, bins, self.blocks.pairs, self.blocks.product)

    def _query_rows(self, rows: slice, levels: int) -> Tensor:
        """Rows a such that a times a column is d G + g, the number of a counter.

        d = (K - ⟨q, r⟩) / 2 and g = ⟨y, z⟩, so that one product serves both.
        """
        codes = self.floats(self.q, rows)
        parts = [codes * (-levels / 2)]
        if levels > 1:
            parts.append(self.labels[rows].float())
        constant = torch.full_like(codes[:, :1], self.bits * levels / 2)
        return torch.cat([*parts, constant], 1)

    def columns(self, rows: slice | Tensor, labels: Tensor | None = None) -> Tensor:
        """Columns b of a product (F, N): codes, labels if any, and ones.

        Args:
            rows: of the database, slice or numbers.
            labels: of these items.
        """
        count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        extra = [] if labels is None else [labels.to(self.q.device).float()]
        width = self.bits + sum(part.shape[1] for part in extra) + 1
        table = torch.ones(count, width, device=self.q.device)
        for part in slices(0, count, self.blocks.references):  # bounds what unpacking takes
            if isinstance(rows, slice):
                some: slice | Tensor = slice(
                    rows.start + part.start, rows.start + part.stop
                )
            else:
                some = rows[part]
            table[part, : self.bits] = self.floats(self.r, some)
        for labelled in extra:
            table[:, self.bits : -1] = labelled
        # A view: to lay columns out anew cost more than the product for few queries.
        return table.T

    def grades_of(self, rows: Tensor, items: Tensor) -> Tensor:
        """Grades (q, n) of some pairs, as int64.

        Args:
            rows: numbers of queries.
            items: numbers of database items.
        """
        labels = self.labels[rows]
        others = self.ref_labels[items.to(self.ref_labels.device)].to(labels.device)
        if self.relevance is not None:
            return relevance_grades(self.relevance, labels, others, self.grades)
        return shared_label_count(labels, others).long()

    def floats(self, codes: Tensor, rows: slice | Tensor) -> Tensor:
        """Codes of some rows as floats, on the device of the queries.

        Args:
            codes: of either side.
            rows: slice or numbers.
        """
        if isinstance(rows, Tensor):
            rows = rows.to(codes.device)
        block = codes[rows].to(self.q.device)
        return (
            unpack_codes(block, self.bits) if codes.dtype == torch.uint8 else block.float()
        )


def slices(start: int, stop: int, step: int) -> Iterator[slice]:
    """Slices of equal length, the last one maybe shorter.

    Args:
        start: of the first.
        stop: of the last.
        step: length.
    """
    for i in range(start, stop, step):
        yield slice(i, min(i + step, stop))
