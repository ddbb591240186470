"""Who stands where among the rows of a table: means, ranks, the best."""

import math
import statistics
from collections.abc import Sequence

from ..suites import Row
from .runs import Run, Value

MERGED = "nm"  # the family with NMLayer
ADAPTED = "adapted"  # that and the items that are searched
UNMERGED = ("direct", "reg")  # those that it is compared with
Means = dict[tuple[str, int], float]  # by name of the row, and bits


def means(runs: Sequence[Run], value: Value) -> Means:
    """Average over seeds; a row that lacks a seed at a length has no mean there."""
    values: dict[tuple[str, int], list[float | None]] = {}
    for run in runs:
        found = value(run) if run.metrics else None
        known = None if found is None or math.isnan(found) else found
        values.setdefault((run.row.name, run.bits), []).append(known)
    return {
        place: statistics.fmean(each for each in found if each is not None)
        for place, found in values.items()
        if None not in found
    }


def is_code(row: Row) -> bool:
    """Tell codes from references, which take many times the bytes."""
    return row.kind != "reference"


def ranks(rows: Sequence[Row], averages: Means) -> dict[tuple[str, int], int]:
    """Rank codes at each length: 1 is the highest mean, equal means share a rank."""
    codes = {row.name for row in rows if is_code(row)}
    ranked = {place: mean for place, mean in averages.items() if place[0] in codes}
    return {
        (name, bits): 1 + sum(b == bits and m > mean for (_, b), m in ranked.items())
        for (name, bits), mean in ranked.items()
    }


def best_first(rows: Sequence[Row], averages: Means, lengths: Sequence[int]) -> list[Row]:
    """Sort codes by their mean over all lengths; leave out those that lack one."""

    def over_lengths(row: Row) -> float:
        return statistics.fmean(averages[row.name, bits] for bits in lengths)

    def is_whole(row: Row) -> bool:
        return is_code(row) and all((row.name, bits) in averages for bits in lengths)

    whole = [row for row in rows if is_whole(row)]
    return sorted(whole, key=over_lengths, reverse=True)


def family(row: Row, rows: Sequence[Row]) -> list[Row]:
    """Pick the codes of the same loss: direct, with regularizers, and with NMLayer."""
    return [each for each in rows if _compares(each) and each.entry.loss == row.entry.loss]


def _compares(row: Row) -> bool:
    """Tell whether a row shows what its loss alone does, or the loss with NMLayer."""
    kind = row.entry.family in (MERGED, *UNMERGED) and row.entry.loss is not None
    return kind and row.encoding in ("code", "sign")


def twins(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Pair the codes of each entry with NMLayer with those of its loss without it."""
    return [
        (row, other)
        for row in rows
        if row.entry.family == MERGED and _compares(row)
        for other in sorted(family(row, rows), key=lambda each: each.entry.name)
        if other.entry.family in UNMERGED
    ]


def highlights(
    rows: Sequence[Row], averages: Means, lengths: Sequence[int], most: int = 10
) -> list[Row]:
    """Choose the rows that figures show in colour, in the order of the rows.

    All of them, if there are no more than `most`; else the best, each with its family.
    """
    if len(rows) <= most:
        return list(rows)
    chosen: list[Row] = []
    for row in best_first(rows, averages, lengths):
        own = family(row, rows) if _compares(row) else []
        added = [r for r in (row, *own) if r not in chosen]
        added = [r for place, r in enumerate(added) if r not in added[:place]]
        if len(chosen) + len(added) > most:
            break
        chosen += added
    return [row for row in rows if row in chosen] or list(rows[:most])
