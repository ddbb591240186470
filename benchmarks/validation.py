"""What the methods of a suite reach on validation queries: where defaults are chosen."""

from collections.abc import Sequence
from statistics import fmean, stdev

from . import tuning
from .methods import METHODS
from .reporting.judging import judged_all
from .reporting.metrics import METRICS
from .results import Spec, Store
from .suites import Entry, QualitySuite
from .tuned_files import tuning_of

SHOWN = ("map", "coarse_map")  # superclasses, where items have them


def plan(suite: QualitySuite) -> list[Spec]:
    """List the runs: each method with its own options, lengths and seeds of the search."""
    return [
        spec
        for entry in suite.entries
        for bits in tuning_of(suite).bits
        for spec in tuning.specs_of(suite, entry, {}, bits)
    ]


def table(suites: Sequence[QualitySuite], store: Store) -> str:
    """Write one Markdown table: a line a method, and the mean over its columns.

    Args:
        suites: of one file, with the same methods.
        store: where raw results lie.

    Returns:
        mean ± standard deviation over the seeds of the search, in points.
    """
    columns = [
        (suite, metric, bits)
        for suite in suites
        for metric in SHOWN
        for bits in tuning_of(suite).bits
        if _values(suite, suite.entries[0], metric, bits, store)
    ]
    heads = [f"{s.dataset}, {METRICS[m].label}, {k} bits" for s, m, k in columns]
    lines = [_line(["method", "mean", *heads]), _line(["---"] * (len(heads) + 2))]
    for entry in suites[0].entries:
        found = [
            _values(suite, suite.entry(entry.name), metric, bits, store)
            for suite, metric, bits in columns
        ]
        every = [value for values in found for value in values]
        mean = f"{fmean(every):.1f}" if all(found) else "-"
        lines.append(_line([entry.label, mean, *map(_shown, found)]))
    return "\n".join(lines) + "\n"


def _values(
    suite: QualitySuite, entry: Entry, metric: str, bits: int, store: Store
) -> list[float]:
    """One value a seed in points; none where there is no such metric."""
    specs = tuning.specs_of(suite, entry, {}, bits)
    encoding = METHODS[entry.method].encodings[0]
    found = [each.get(encoding, {}) for each in judged_all(store, specs, processes=0)]
    return [100 * each[metric] for each in found if metric in each]


def _shown(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{spread}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
