"""Do methods differ? Ranks and paired tests over the runs that all of them have.

A block is a data set, a length and a seed: there every method had the same items to learn
from and to find. Only differences within a block count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, ttest_1samp, wilcoxon

from ..suites import Row
from . import standing
from .metrics import METRICS
from .runs import Run

Block = tuple[str, int, int]


@dataclass(frozen=True)
class Difference:
    """Two rows compared by the Wilcoxon signed-rank test, two-sided.

    `mean` is that of first - second; `corrected` is p after Holm's correction.
    """

    first: Row
    second: Row
    mean: float
    p: float
    corrected: float


@dataclass(frozen=True)
class Cell:
    """Two rows at one data set and length, compared by a paired t-test over seeds.

    `mean` is that of first - second; `corrected` is p after Holm's correction.
    """

    dataset: str
    bits: int
    mean: float
    corrected: float


@dataclass(frozen=True)
class Comparison:
    """What ranks and tests say.

    Args:
        metrics: labels of the metrics compared, by data set.
        blocks: those that every row has.
        rows: the best mean rank first.
        values: (rows, blocks).
        ranks: mean rank of each row; 1 is the best.
        left_out: rows without a rank, and why.
        friedman: p of the test that all rows are alike; None for fewer than three.
        against_best: of every row but the first, in their order.
        pairs: of every entry with NMLayer and the same loss without it.
    """

    metrics: dict[str, str]
    blocks: tuple[Block, ...]
    rows: tuple[Row, ...]
    values: np.ndarray
    ranks: np.ndarray
    left_out: tuple[tuple[Row, str], ...]
    friedman: float | None
    against_best: tuple[Difference, ...]
    pairs: tuple[Difference, ...]

    @property
    def nothing(self) -> str | None:
        """Why there is nothing to test, if so."""
        if len(self.rows) < 2:
            return f"rows with every run: {len(self.rows)}"
        if len(self.blocks) < 2:
            return f"blocks (data set, length, seed): {len(self.blocks)}"
        return None

    @property
    def tests(self) -> int:
        """How many tests are corrected together."""
        every = (*self.against_best, *self.pairs)
        return len({frozenset((each.first.name, each.second.name)) for each in every})

    @property
    def lowest_p(self) -> float:
        """What so few blocks can reach at best, uncorrected: p if one row wins them all."""
        return 2.0 ** (1 - len(self.blocks))


def compare_rows(runs: Mapping[str, Sequence[Run]]) -> Comparison:
    """Rank the rows of one data set or several, and test their differences.

    Values are NDCG where items have several labels, else mAP. Float embeddings are left
    out: they are references of many times the bytes, not codes.

    Args:
        runs: by data set, as `runs.collect` gives them.
    """
    metrics = {dataset: _metric_of(own) for dataset, own in runs.items()}
    rows, values = _values_by_block(runs, metrics)
    codes = [name for name, row in rows.items() if standing.is_code(row)]
    blocks = tuple(sorted({block for name in codes for block in values[name]}))
    kept = [name for name in codes if blocks and len(values[name]) == len(blocks)]
    table = np.array([[values[name][b] for b in blocks] for name in kept])
    ranks = rankdata(-table, axis=0).mean(1) if kept else np.zeros(0)
    order = np.argsort(ranks, kind="stable")
    table, ordered = table[order], [rows[kept[place]] for place in order]
    return Comparison(
        {dataset: METRICS[name].label for dataset, name in metrics.items()},
        blocks,
        tuple(ordered),
        table,
        ranks[order],
        _left_out([row for name, row in rows.items() if name not in kept], values, blocks),
        _friedman(table),
        *_tests(ordered, table, len(blocks)),
    )


def _metric_of(runs: Sequence[Run]) -> str:
    return "ndcg" if any("ndcg" in run.metrics for run in runs) else "map"


def _values_by_block(
    runs: Mapping[str, Sequence[Run]], metrics: Mapping[str, str]
) -> tuple[dict[str, Row], dict[str, dict[Block, float]]]:
    rows: dict[str, Row] = {}
    values: dict[str, dict[Block, float]] = {}
    for dataset, own in runs.items():
        for run in own:
            rows[run.row.name] = run.row
            found = values.setdefault(run.row.name, {})
            value = run.metrics.get(metrics[dataset], np.nan)
            if not np.isnan(value):
                found[dataset, run.bits, run.seed] = value
    return rows, values


def _left_out(
    rows: Sequence[Row], values: Mapping[str, dict[Block, float]], blocks: Sequence[Block]
) -> tuple[tuple[Row, str], ...]:
    return tuple(
        (
            row,
            f"{len(values[row.name])} of {len(blocks)} blocks"
            if standing.is_code(row)
            else "float32, no code",
        )
        for row in rows
    )


def _friedman(table: np.ndarray) -> float | None:
    if len(table) < 3 or table.shape[1] < 2:
        return None
    if (table == table[0]).all():  # no rank differs, and the statistic would be 0 / 0
        return 1.0
    return float(friedmanchisquare(*table).pvalue)


def _tests(
    rows: Sequence[Row], table: np.ndarray, blocks: int
) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """Test every row against the first, and twins; correct all of them together."""
    if len(rows) < 2 or blocks < 2:
        return (), ()
    best = [(place, 0) for place in range(1, len(rows))]
    twins = [(rows.index(a), rows.index(b)) for a, b in standing.twins(rows)]
    wanted = list(dict.fromkeys(frozenset(pair) for pair in (*best, *twins)))
    p = [wilcoxon_p(*table[list(pair)]) for pair in wanted]
    found = dict(zip(wanted, zip(p, holm(p), strict=True), strict=True))

    def difference(pair: tuple[int, int]) -> Difference:
        first, second = pair
        mean = float((table[first] - table[second]).mean())
        return Difference(rows[first], rows[second], mean, *found[frozenset(pair)])

    return tuple(map(difference, best)), tuple(map(difference, twins))


def gains_of(comparison: Comparison) -> list[list[Cell]]:
    """Compare each of `comparison.pairs` cell by cell; all cells are corrected together.

    The t-test takes differences to be normal. It is here as no rank test can show anything
    within the few seeds of a cell.
    """
    places = {row.name: place for place, row in enumerate(comparison.rows)}
    columns: dict[tuple[str, int], list[int]] = {}
    for column, (dataset, bits, _) in enumerate(comparison.blocks):
        columns.setdefault((dataset, bits), []).append(column)
    differences = [
        comparison.values[places[pair.first.name]][own]
        - comparison.values[places[pair.second.name]][own]
        for pair in comparison.pairs
        for own in columns.values()
    ]
    if not differences:
        return []
    corrected = iter(holm([t_test_p(each) for each in differences]))
    means = iter([float(each.mean()) for each in differences])
    return [
        [Cell(*cell, next(means), next(corrected)) for cell in columns]
        for _ in comparison.pairs
    ]


def t_test_p(differences: np.ndarray) -> float:
    """Return p of the two-sided t-test that a mean is 0; 1 for a single difference."""
    if len(differences) < 2 or not differences.any():
        return 1.0
    # all alike, t would be infinite; rounding must not decide about that
    if np.allclose(differences, differences[0], rtol=1e-9, atol=0):
        return 0.0
    return float(ttest_1samp(differences, 0).pvalue)


def wilcoxon_p(first: np.ndarray, second: np.ndarray) -> float:
    """Return p of the two-sided signed-rank test; differences of 0 are dropped."""
    differences = first - second
    differences = differences[differences != 0]
    return float(wilcoxon(differences).pvalue) if len(differences) else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Correct p for the number of tests by Holm's step-down method."""
    from statsmodels.stats.multitest import multipletests  # takes a second to import

    return [float(value) for value in multipletests(p, method="holm")[1]]
