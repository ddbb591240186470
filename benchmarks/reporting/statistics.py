"""What ranks and paired tests say, as a section of a report and as a diagram."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from .paired import (
    Cell,
    Comparison,
    Difference,
    compare_rows,
    gains_of,
    holm,
    wilcoxon_p,
)
from .runs import Run
from .tables import markdown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALPHA = 0.05
DRAWN = 20  # rows of a diagram; more cannot be read


def appendix(runs: Mapping[str, Sequence[Run]], title: str = "### Statistics") -> str:
    """Write the section of one data set or several; "" for a single row or block."""
    rows = {run.row.name for own in runs.values() for run in own}
    blocks = {(name, run.bits, run.seed) for name, own in runs.items() for run in own}
    if len(rows) < 2 or len(blocks) < 2:
        return ""
    return section(compare_rows(runs), title)


def section(comparison: Comparison, title: str = "### Statistics") -> str:
    """Write ranks and tests in Markdown."""
    if comparison.nothing is not None:
        text = f"Nothing to test: tests need two rows and two blocks; {comparison.nothing}."
        parts = [text, *_left_out(comparison)]
    else:
        parts = [
            _rank_table(comparison),
            *([_pair_table(comparison)] if comparison.pairs else []),
            "\n".join(f"- {line}" for line in _notes(comparison)),
        ]
    return "\n\n".join([title, *parts]) + "\n"


def _rank_table(comparison: Comparison) -> str:
    header = ["mean rank", "method", _metrics(comparison), "to the best", "p", "differs"]
    means = comparison.values.mean(1)
    tests = [["–"] * 3, *(_cells(comparison, each) for each in comparison.against_best)]
    rows = [
        [f"{rank:.2f}", row.label, f"{mean:.3f}", *cells]
        for rank, row, mean, cells in zip(
            comparison.ranks, comparison.rows, means, tests, strict=True
        )
    ]
    return markdown(header, rows)


def _pair_table(comparison: Comparison) -> str:
    gains = gains_of(comparison)
    lengths = sorted({bits for _, bits, _ in comparison.blocks})
    header = ["with NMLayer", "without", "difference", "p", "differs"]
    header += [f"{bits} bits" for bits in lengths]
    header += ["cells won", "lost", "least"]
    rows = [
        [each.first.label, each.second.label, *_cells(comparison, each)]
        + [f"{_mean_at(own, bits):+.3f}" for bits in lengths]
        + [f"{sum(cell.mean > 0 for cell in _shown(own))} of {len(own)}"]
        + [f"{sum(cell.mean < 0 for cell in _shown(own))}", _least(own)]
        for each, own in zip(comparison.pairs, gains, strict=True)
    ]
    return markdown(header, rows)


def _shown(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.corrected < ALPHA]


def _mean_at(cells: Sequence[Cell], bits: int) -> float:
    return fmean(cell.mean for cell in cells if cell.bits == bits)


def _least(cells: Sequence[Cell]) -> str:
    least = min(cells, key=lambda cell: cell.mean)
    return f"{least.mean:+.3f} ({least.dataset}, {least.bits} bits)"


def _cells(comparison: Comparison, test: Difference) -> list[str]:
    if _floor(comparison) > ALPHA:
        answer = "cannot tell"
    else:
        answer = "yes" if test.corrected < ALPHA else "not shown"
    return [f"{test.mean:+.3f}", f"{test.corrected:.2g}", answer]


def _floor(comparison: Comparison) -> float:
    """Return the lowest p that the correction leaves, however large the differences."""
    return min(comparison.tests * comparison.lowest_p, 1.0)


def _notes(comparison: Comparison) -> list[str]:
    blocks, tests = len(comparison.blocks), comparison.tests
    lines = [
        f"Ranks within {blocks} blocks ({_count(comparison)}); 1 is the best.",
        "p: Wilcoxon signed-rank test, two-sided, after Holm's correction over all "
        f"{tests} comparisons made here: each row with the one of the best mean rank"
        f"{', and with and without NMLayer' if comparison.pairs else ''}.",
    ]
    if comparison.friedman is not None:
        lines.append(
            f"Friedman test that all {len(comparison.rows)} rows are alike: "
            f"p = {comparison.friedman:.2g}."
        )
    if comparison.lowest_p > ALPHA:
        lines.append(
            f"{blocks} blocks are too few for any claim: even a row that wins all of them "
            f"reaches p = {comparison.lowest_p:.2g} at best, before the correction."
        )
    elif _floor(comparison) > ALPHA:
        lines.append(
            f"{blocks} blocks are too few for {tests} comparisons: even a row that wins "
            f"all of them reaches p = {_floor(comparison):.2g} at best."
        )
    if comparison.pairs:
        cells = sum(map(len, gains_of(comparison)))
        lines.append(
            "A cell is a data set and a length; least: the lowest difference of a cell, a "
            f"mean over seeds. Won or lost: p < {ALPHA} in a paired t-test over seeds, "
            f"two-sided, after Holm's correction over all {cells} cells of the table."
        )
    lines.append(
        "The tests suppose independent blocks. Those of one seed and different lengths "
        "share a split, and splits of different seeds overlap: p is too low where a "
        "difference hangs on the split."
    )
    return [*lines, *_left_out(comparison)]


def _metrics(comparison: Comparison) -> str:
    return " or ".join(dict.fromkeys(comparison.metrics.values()))


def _count(comparison: Comparison) -> str:
    names = ("data sets", "lengths", "seeds")
    counts = [len(set(values)) for values in zip(*comparison.blocks, strict=True)]
    return ", ".join(f"{name}: {n}" for name, n in zip(names, counts, strict=True))


def _left_out(comparison: Comparison) -> list[str]:
    reasons = dict.fromkeys(reason for _, reason in comparison.left_out)
    return [
        f"Left out ({reason}): "
        f"{'; '.join(row.label for row, why in comparison.left_out if why == reason)}."
        for reason in reasons
    ]


def draw_diagram(comparison: Comparison, axes: "Axes") -> None:
    """Draw the critical-difference diagram of the best `DRAWN` rows; see `about_diagram`.

    Raises:
        ValueError: there is nothing to compare.
    """
    if comparison.nothing is not None:
        raise ValueError(
            f"a diagram needs two rows and two blocks; {comparison.nothing}; look at "
            "comparison.nothing before drawing"
        )
    from pandas import DataFrame
    from scikit_posthocs import critical_difference_diagram

    labels = _unique_labels(comparison)[:DRAWN]
    critical_difference_diagram(
        dict(zip(labels, comparison.ranks[:DRAWN], strict=True)),
        DataFrame(_all_pairs(comparison.values[:DRAWN]), index=labels, columns=labels),
        alpha=ALPHA,
        ax=axes,
        label_props={"fontsize": 8},
        crossbar_props={"marker": "o", "markersize": 3},
    )


def _unique_labels(comparison: Comparison) -> list[str]:
    labels = [row.label for row in comparison.rows]
    return [
        row.label if labels.count(row.label) == 1 else f"{row.label} [{row.name}]"
        for row in comparison.rows
    ]


def _all_pairs(values: np.ndarray) -> np.ndarray:
    """Compute corrected p of every pair of rows, as a symmetric matrix with ones within."""
    above = np.triu_indices(len(values), 1)
    matrix = np.ones((len(values), len(values)))
    pairs = zip(*above, strict=True)
    matrix[above] = holm([wilcoxon_p(values[i], values[j]) for i, j in pairs])
    return np.minimum(matrix, matrix.T)


def diagram_inches(comparison: Comparison) -> tuple[float, float]:
    """Propose width and height for the figure of a diagram."""
    return 8.0, 1.5 + 0.2 * min(len(comparison.rows), DRAWN)


def about_diagram(comparison: Comparison) -> str:
    """Say how to read the diagram."""
    count, shown = len(comparison.rows), min(len(comparison.rows), DRAWN)
    which = f"the best {shown} of {count}" if shown < count else f"all {count}"
    return (
        f"Mean ranks of {which} rows by {_metrics(comparison)} within "
        f"{len(comparison.blocks)} blocks ({_count(comparison)}); 1 is the best. A bar "
        "joins rows (its dots) of which no two were shown to differ (Wilcoxon signed-rank, "
        f"two-sided, p < {ALPHA} after Holm's correction over the "
        f"{shown * (shown - 1) // 2} pairs drawn)."
    )
