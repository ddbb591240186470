"""Who can win at a length, from a summary: rows by each way of comparing their codes.

A row whose query may stay real while the stored code has bits stands here twice: by code
against code, and by real query against code. Floats are references and win nothing. A row
that stores more bits an item than a length has is no contender at that length.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from ..interface import ENCODINGS
from .packing import STORED

ASYMMETRIC = "asymmetric_"  # begins the name of a metric of real queries against codes
REAL_QUERY = "real query"
WITH_NMLAYER = ("nm", "adapted")  # families
Values = dict[str, float]  # by seed


@dataclass(frozen=True)
class Contender:
    """A row by one way of comparing.

    Args:
        row: its name.
        entry: that of its entry in the suite.
        label: how tables call it, and the way if it is not code against code.
        family: one of `FAMILIES`.
        hamming: codes on both sides, compared by Hamming distance.
        reference: it takes more bits than its length says, and wins nothing.
        floats: a reference whose bits are beyond any chart.
        values: by metric, then by length, then by seed; what is no number is left out.
        stored: bits that an item takes, by length.
    """

    row: str
    entry: str
    label: str
    family: str
    hamming: bool
    reference: bool
    floats: bool
    values: dict[str, dict[int, Values]]
    stored: dict[int, float]

    def mean(self, metric: str, bits: int) -> float:
        return fmean(self.values[metric][bits].values())


def contenders(part: dict[str, Any]) -> list[Contender]:
    """List those of a data set of a summary, references included."""
    return [each for name, row in part["rows"].items() for each in _ways(name, row)]


def _ways(name: str, row: dict[str, Any]) -> Iterable[Contender]:
    values = {
        metric: {int(bits): _numbers(cell) for bits, cell in lengths.items()}
        for metric, lengths in row["values"].items()
    }
    stored = {b: fmean(cell.values()) for b, cell in values.get(STORED, {}).items() if cell}
    kind = ENCODINGS[row["encoding"]].kind
    floats = row["encoding"] == "float"
    for begin, way in (("", ""), (ASYMMETRIC, f", {REAL_QUERY}")):
        own = {
            metric.removeprefix(begin): cells
            for metric, cells in values.items()
            if metric.startswith(ASYMMETRIC) == bool(begin)
        }
        if own and not (begin and floats):
            yield Contender(
                name,
                row["entry"],
                f"{row['label']}{way}",
                row["family"],
                kind == "hamming" and not begin,
                kind == "reference",
                floats,
                own,
                {bits: stored.get(bits, float(bits)) for bits in lengths_of([own])},
            )


def _numbers(cell: dict[str, float | None]) -> Values:
    return {seed: value for seed, value in cell.items() if value is not None}


def decisive(part: dict[str, Any]) -> str:
    """Name the metric that decides: NDCG where items have several labels, else mAP."""
    found = any("ndcg" in row["values"] for row in part["rows"].values())
    return "ndcg" if found else "map"


def lengths_of(values: Iterable[dict[str, dict[int, Values]]]) -> list[int]:
    """List the lengths that have a value."""
    all_cells = (cells for each in values for cells in each.values())
    return sorted({bits for cells in all_cells for bits, own in cells.items() if own})


def complete(all_of_them: Sequence[Contender], metric: str, bits: int) -> list[Contender]:
    """Pick those with a value of every seed, the highest mean first."""
    seeds = {s for c in all_of_them for s in c.values.get(metric, {}).get(bits, {})}
    whole = [
        each
        for each in all_of_them
        if seeds and each.values.get(metric, {}).get(bits, {}).keys() == seeds
    ]
    return sorted(whole, key=lambda each: each.mean(metric, bits), reverse=True)


def ranked(all_of_them: Sequence[Contender], metric: str, bits: int) -> list[Contender]:
    """Rank codes of a length, each row by its better way; the best first."""
    found: dict[str, Contender] = {}
    for each in complete(all_of_them, metric, bits):
        if not each.reference and each.stored[bits] <= bits:
            found.setdefault(each.row, each)
    return list(found.values())


def mean_and_sd(values: Iterable[float], sign: str = "") -> str:
    """Write a mean and the standard deviation over seeds, if there are two."""
    found = list(values)
    spread = f" ± {stdev(found):.3f}" if len(found) > 1 else ""
    return f"{fmean(found):{sign}.3f}{spread}"
