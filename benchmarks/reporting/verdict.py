"""Whoever wins is said: three sentences on each data set, computed from a summary."""

from collections.abc import Sequence
from typing import Any

from .contenders import (
    WITH_NMLAYER,
    Contender,
    complete,
    contenders,
    decisive,
    lengths_of,
    mean_and_sd,
    ranked,
)
from .metrics import METRICS
from .standing import MERGED
from .summary import Summary

BASIS = (
    "The sentences at the top: means ± standard deviation over seeds; a difference is "
    "paired by seed. Each row counts by the better of its ways: code against code, or real "
    "query against code. A Hamming code is bits on both sides, compared by Hamming "
    "distance. Floats, and what stores more bits an item than a length has, are a "
    "reference. Of this package are heads that NMLayer merges, and what learns from the "
    "unlabelled items that are searched. The best of many rows is found on the queries "
    "that judge it: its mean flatters it."
)


def title(summary: Summary) -> str:
    """Say what a suite compared."""
    name = f"Suite {summary['suite']}"
    if summary["kind"] == "kernels":
        return f"{name}: times of {len(summary['kernels'])} kernels"
    parts = summary["datasets"]
    rows = {row for part in parts.values() for row in part["rows"]}
    lengths = {
        int(bits)
        for part in parts.values()
        for row in part["rows"].values()
        for cells in (*row["values"].values(), row["missing"])
        for bits in cells
    }
    return (
        f"{name}: {len(rows)} methods at {_listed(sorted(lengths))} bits on "
        f"{_listed(list(parts))}"
    )


def finding(summary: Summary) -> str:
    """Write what a page opens with; "" for kernels."""
    if summary["kind"] == "kernels":
        return ""
    told = []
    for name, part in summary["datasets"].items():
        lines = [f"- {sentence}" for sentence in sentences(part)]
        told += [f"**{name}**", "\n".join(lines)]
    return "\n\n".join(told) + "\n"


def sentences(part: dict[str, Any]) -> list[str]:
    """Say who wins at each length, what the best Hamming code costs, where NMLayer is."""
    found, metric = contenders(part), decisive(part)
    order = {b: ranked(found, metric, b) for b in lengths_of(c.values for c in found)}
    order = {bits: rows for bits, rows in order.items() if rows}
    if not order:
        return ["No code has all of its runs yet, so there is no winner."]
    return [
        _winners(found, metric, order),
        _best_hamming(found, metric, order),
        _nmlayer(metric, order),
    ]


def _winners(
    found: Sequence[Contender], metric: str, order: dict[int, list[Contender]]
) -> str:
    cells = [
        f"{bits} bits: {rows[0].label} ({_value(rows[0], metric, bits)})"
        for bits, rows in order.items()
    ]
    return f"Winner by {METRICS[metric].label}: {'; '.join(cells)}{_floats(found, metric)}."


def _floats(found: Sequence[Contender], metric: str) -> str:
    """Add the features as they are: what a code is measured against."""
    own = [each for each in found if each.family == "floats"]
    for bits in reversed(lengths_of(each.values for each in own)):
        for each in complete(own, metric, bits)[:1]:
            return f"; for reference {each.label}: {_value(each, metric, bits)}"
    return ""


def _best_hamming(
    found: Sequence[Contender], metric: str, order: dict[int, list[Contender]]
) -> str:
    cells = []
    for bits, rows in order.items():
        own = [each for each in found if each.hamming]
        best = ranked(own, metric, bits)
        if not best:
            cells.append(f"{bits} bits: none")
        elif best[0] is rows[0]:
            cells.append(f"{bits} bits: the winner{_lead(rows, metric, bits)}")
        else:
            cells.append(f"{bits} bits: {_behind(best[0], rows[0], metric, bits)}")
    return f"Best Hamming code: {'; '.join(cells)}."


def _nmlayer(metric: str, order: dict[int, list[Contender]]) -> str:
    cells = []
    for bits, rows in order.items():
        place = next((i for i, c in enumerate(rows) if c.family in WITH_NMLAYER), None)
        if place is None:
            continue
        own, rivals = rows[place], [c for c in rows if c.family not in WITH_NMLAYER]
        if place:
            text = _behind(own, rows[0], metric, bits)
        elif rivals:
            gain = _difference(own, rivals[0], metric, bits)
            text = f"{own.label}, {gain} above the best rival, {rivals[0].label}"
        else:
            text = f"{own.label}, without a rival"
        more = "" if own.family == MERGED else _merged(rows, metric, bits)
        cells.append(f"{bits} bits: place {place + 1} of {len(rows)}, {text}{more}")
    return f"This package: {'; '.join(cells) or 'no such row has all of its runs'}."


def _merged(rows: Sequence[Contender], metric: str, bits: int) -> str:
    """Say where merged heads are that did not see the items that are searched."""
    for place, own in enumerate(rows, start=1):
        if own.family == MERGED:
            value = _value(own, metric, bits)
            return f" (NMLayer alone: place {place}, {own.label}, {value})"
    return " (no head that NMLayer merges)"


def _behind(own: Contender, best: Contender, metric: str, bits: int) -> str:
    cost = _difference(best, own, metric, bits)
    value = _value(own, metric, bits)
    return f"{own.label} ({value}), {cost} below {_called(best, own)}"


def _called(best: Contender, own: Contender) -> str:
    return "its own real queries" if best.row == own.row else "the winner"


def _lead(rows: Sequence[Contender], metric: str, bits: int) -> str:
    if len(rows) == 1:
        return ""
    lead = _difference(rows[0], rows[1], metric, bits)
    return f", {lead} above the next, {rows[1].label}"


def _value(each: Contender, metric: str, bits: int) -> str:
    return mean_and_sd(each.values[metric][bits].values())


def _difference(first: Contender, second: Contender, metric: str, bits: int) -> str:
    """Subtract seed by seed: both had the same items to find."""
    one, other = first.values[metric][bits], second.values[metric][bits]
    return mean_and_sd([one[seed] - other[seed] for seed in one])


def _listed(items: Sequence[object]) -> str:
    *most, last = map(str, items or ["no"])
    return f"{', '.join(most)} and {last}" if most else last
