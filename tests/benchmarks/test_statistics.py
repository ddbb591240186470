import itertools
import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.methods import METHODS
from benchmarks.reporting import statistics
from benchmarks.reporting.paired import (
    compare_rows,
    gains_of,
    holm,
    t_test_p,
    wilcoxon_p,
)
from benchmarks.reporting.runs import Run
from benchmarks.suites import Entry, Row


def row(name, encoding="code", method="itq"):
    """Make a row: of the method of its name, if there is one; other names are controls."""
    family = METHODS[name].family if name in METHODS else "control"
    method = name if name in METHODS else method
    entry = Entry(name, method, f"label of {name}", {}, (encoding,), family=family)
    return Row(entry, encoding)


def runs_of(table, metric="map", bits=(12,)):
    """Make runs of {"entry" or "entry.encoding": values by length and seed, or None}."""
    runs = []
    for name, values in table.items():
        stem, _, encoding = name.partition(".")
        each = row(stem, encoding, "supcon") if encoding else row(stem)
        seeds = range(len(values) // len(bits))
        places = itertools.product(bits, seeds)
        for (length, seed), value in zip(places, values, strict=True):
            metrics = {} if value is None else {metric: value}
            runs.append(Run(each, length, seed, None, metrics))
    return runs


def compared(table, **options):
    return compare_rows({"digits": runs_of(table, **options)})


def ladder(blocks, *heights):
    """Rows that differ by their height, and a little from block to block."""
    return {
        f"row{place}": [height + 0.001 * b * (place + 1) for b in range(blocks)]
        for place, height in enumerate(heights)
    }


def signed_rank_p(differences):
    """Enumerate all signs: the share that is at least as far from the middle."""
    sizes = [abs(d) for d in differences]
    ranks = [
        sum(other < size for other in sizes) + (sizes.count(size) + 1) / 2 for size in sizes
    ]
    middle = sum(ranks) / 2
    found = sum(rank for rank, d in zip(ranks, differences, strict=True) if d > 0)
    patterns = list(itertools.product([0, 1], repeat=len(ranks)))
    sums = [sum(r * on for r, on in zip(ranks, p, strict=True)) for p in patterns]
    return sum(abs(s - middle) >= abs(found - middle) for s in sums) / len(patterns)


@pytest.mark.parametrize(
    "differences",
    [
        [1, 2, 3, 4, 5],
        [-1, 2, 3, -4, 5, 6, 7, -8, 9],
        [1, 1, -2, 2, 3, 3, -3],  # ties
        [1, -2, 3, 4],
    ],
)
def test_p_is_the_share_of_sign_patterns(differences):
    found = wilcoxon_p(np.array(differences, float), np.zeros(len(differences)))
    assert found == pytest.approx(signed_rank_p(differences))


def test_blocks_without_a_difference_are_dropped():
    some = wilcoxon_p(np.array([0.0, 1, 2, 3, 4, 5]), np.zeros(6))
    assert some == pytest.approx(1 / 16)
    assert wilcoxon_p(np.ones(4), np.ones(4)) == 1


def test_holm_by_hand():
    # in order: 4 x 0.005, 3 x 0.01, 2 x 0.03, 1 x 0.04, and never less than before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]


def test_ranks_and_friedman_by_hand():
    table = {
        "a": [0.1, 0.2, 0.3, 0.4],
        "b": [0.5, 0.5, 0.5, 0.3],
        "c": [0.2, 0.4, 0.4, 0.2],
    }
    found = compared(table)
    assert [each.name for each in found.rows] == ["b", "c", "a"]
    # ranks of a: 3 3 3 1, b: 1 1 1 2, c: 2 2 2 3
    np.testing.assert_allclose(found.ranks, [5 / 4, 9 / 4, 10 / 4])
    np.testing.assert_array_equal(found.values[0], table["b"])
    statistic = 12 / (4 * 3 * 4) * (5**2 + 9**2 + 10**2) - 3 * 4 * 4
    assert found.friedman == pytest.approx(math.exp(-statistic / 2))  # 2 degrees of freedom
    assert found.against_best[1].mean == pytest.approx(0.25 - 0.45)
    ties = compared({"a": [0.1, 0.2], "b": [0.1, 0.3]})
    np.testing.assert_allclose(ties.ranks, [1.25, 1.75])
    assert ties.friedman is None
    alike = compared({name: [0.1, 0.2] for name in "abc"})
    assert (alike.friedman, alike.against_best[0].p) == (1, 1)


def test_too_few_blocks_are_said_to_be_too_few():
    text = statistics.section(compared(ladder(5, 0.9, 0.5, 0.1)))
    assert "5 blocks are too few for any claim" in text
    assert "reaches p = 0.062 at best, before the correction" in text
    assert text.count("cannot tell") == 2
    assert "not shown" not in text
    assert "yes" not in text


def test_the_correction_counts_as_well():
    few = statistics.section(compared(ladder(6, 0.9, 0.1)))
    assert few.count("| yes") == 1
    assert "too few" not in few
    more = statistics.section(compared(ladder(6, 0.9, 0.5, 0.1)))
    assert "6 blocks are too few for 2 comparisons" in more
    assert "reaches p = 0.062 at best." in more
    assert "| yes" not in more


def test_enough_blocks_tell_what_differs():
    table = ladder(8, 0.9, 0.1)
    table["close"] = [v + (0.01 if b % 2 else -0.011) for b, v in enumerate(table["row0"])]
    found = compared(table, bits=(12, 24))
    text = statistics.section(found)
    (best, close, low) = [line for line in text.splitlines() if "label of" in line]
    assert "| –" in best
    assert close.endswith("| not shown |")
    assert low.endswith("| yes       |")
    assert "8 blocks (data sets: 1, lengths: 2, seeds: 4)" in text
    assert "share a split" in text
    assert found.against_best[1].p == pytest.approx(2 / 2**8)
    assert found.against_best[1].corrected == pytest.approx(2 * 2 / 2**8)


def test_rows_without_every_block_are_named():
    table = {
        **ladder(4, 0.9, 0.5),
        "half": [0.1, None, math.nan, 0.1],
        "supcon.float": [1] * 4,
    }
    found = compared(table)
    assert [each.name for each in found.rows] == ["row0", "row1"]
    text = statistics.section(found)
    assert "Left out (2 of 4 blocks): label of half." in text
    assert "Left out (float32, no code): label of supcon, float32." in text
    alone = compared({"a": [0.1, 0.2], "b": [0.1, None]})
    assert alone.nothing == "rows with every run: 1"
    text = statistics.section(alone)
    assert "Nothing to test" in text
    assert "Left out (1 of 2 blocks): label of b." in text
    assert compared({"a": [None], "b": [None]}).nothing == "rows with every run: 0"


def test_losses_are_paired_with_their_nmlayer():
    table = {
        "supcon_nm": [0.9] * 8,
        "supcon.sign": [0.8 + 0.01 * b for b in range(8)],
        "supcon_tanh": [0.7 + 0.01 * b for b in range(8)],
        "supcon_nm_random": [0.1 * b for b in range(8)],
        "dpsh_nm": [0.2 + 0.02 * b for b in range(8)],
    }
    found = compared(table)
    pairs = [(each.first.name, each.second.name) for each in found.pairs]
    assert pairs == [("supcon_nm", "supcon"), ("supcon_nm", "supcon_tanh")]
    assert found.pairs[0].mean == pytest.approx(0.9 - np.mean(table["supcon.sign"]))
    # the best one is supcon_nm, so both pairs are among the four with the best
    assert found.rows[0].name == "supcon_nm"
    assert found.tests == 4
    every = [wilcoxon_p(np.array(table[n]), np.array([0.9] * 8)) for n in list(table)[1:]]
    assert found.pairs[1].corrected == pytest.approx(holm(every)[1])
    assert "with NMLayer" in statistics.section(found)
    assert "with NMLayer" not in statistics.section(compared(ladder(4, 0.2, 0.1)))


def test_t_test_by_hand():
    # two degrees of freedom have p = 1 - t / sqrt(2 + t²), here with t = 2 sqrt(3)
    assert t_test_p(np.array([1.0, 2, 3])) == pytest.approx(1 - math.sqrt(12 / 14))
    assert t_test_p(np.array([-3.0, -2, -1])) == pytest.approx(1 - math.sqrt(12 / 14))
    assert t_test_p(np.zeros(3)) == t_test_p(np.array([0.1])) == 1
    assert t_test_p(np.full(3, 0.1)) == 0


def test_gains_are_told_cell_by_cell():
    merged = [0.8, 0.81, 0.82, 0.9, 0.91, 0.92]
    plain = [0.7, 0.71, 0.72, 0.95, 0.9, 0.86]  # wins at 12 bits by 0.1 in every seed
    table = {"supcon_nm": merged, "supcon.sign": plain, "supcon_reg.sign": merged}
    found = compared(table, bits=(12, 24))
    (first, second) = gains_of(found)
    assert [(cell.dataset, cell.bits) for cell in first] == [("digits", 12), ("digits", 24)]
    assert first[0].mean == pytest.approx(0.1)
    assert first[1].mean == pytest.approx(0.02 / 3)
    p = [t_test_p(np.subtract(merged, plain)[part]) for part in (slice(3), slice(3, 6))]
    corrected = holm([*p, 1, 1])
    assert [cell.corrected for cell in first] == pytest.approx(corrected[:2])
    assert [cell.mean for cell in second] == [0, 0]
    text = statistics.section(found)
    assert "| +0.100  | +0.007  | 1 of 2    | 0    | +0.007 (digits, 24 bits) |" in text
    assert "over all 4 cells of the table" in text


def test_several_data_sets_each_with_its_metric():
    one = runs_of({"a": [0.5, 0.6], "b": [0.1, 0.2]})
    two = runs_of({"a": [0.3], "b": [0.4]}, metric="ndcg")
    two = [Run(r.row, 12, 0, r.record, {"map": 0.9, **r.metrics}) for r in two]
    found = compare_rows({"one": one, "two": two})
    assert found.metrics == {"one": "mAP@all", "two": "NDCG@all"}
    assert found.blocks == (("one", 12, 0), ("one", 12, 1), ("two", 12, 0))
    np.testing.assert_array_equal(found.values, [[0.5, 0.6, 0.3], [0.1, 0.2, 0.4]])
    assert "mAP@all or NDCG@all" in statistics.section(found)


def test_one_row_or_one_block_needs_no_section():
    assert statistics.appendix({"d": runs_of({"a": [0.5, 0.6]})}) == ""
    assert statistics.appendix({"d": runs_of({"a": [0.5], "b": [0.6]})}) == ""
    text = statistics.appendix({"d": runs_of({"a": [0.5, 0.6], "b": [0.1, 0.3]})}, "## All")
    assert text.startswith("## All\n")


def test_a_diagram_joins_what_does_not_differ():
    table = ladder(12, 0.9, 0.5, 0.1)
    table["close"] = [v + (0.01 if b % 2 else -0.011) for b, v in enumerate(table["row0"])]
    found = compared(table)
    axes = Figure().add_subplot()
    statistics.draw_diagram(found, axes)
    texts = [text.get_text() for text in axes.texts]
    assert all(any(each.label in text for text in texts) for each in found.rows)
    bars = [line for line in axes.lines if line.get_marker() == "o"]
    (bar,) = bars  # of the best two only
    assert sorted(bar.get_xdata()) == pytest.approx(list(found.ranks[:2]))
    assert "all 4 rows by mAP@all within 12 blocks" in statistics.about_diagram(found)
    assert "over the 6 pairs drawn" in statistics.about_diagram(found)


def test_a_diagram_stays_readable():
    found = compared(ladder(8, *np.linspace(0.9, 0.1, 25)))
    axes = Figure().add_subplot()
    statistics.draw_diagram(found, axes)
    assert len(axes.texts) == statistics.DRAWN
    assert "the best 20 of 25 rows" in statistics.about_diagram(found)
    with pytest.raises(ValueError, match="two rows and two blocks; rows with every run: 1"):
        statistics.draw_diagram(compared({"a": [0.1, 0.2]}), axes)


def test_equal_labels_stay_apart_in_a_diagram():
    same = [Row(Entry(name, "itq", "same", {}, ("code",)), "code") for name in "ab"]
    runs = [
        Run(each, 12, seed, {}, {"map": 0.1 * seed + 0.5 * place})
        for place, each in enumerate(same)
        for seed in range(3)
    ]
    axes = Figure().add_subplot()
    statistics.draw_diagram(compare_rows({"d": runs}), axes)
    assert sorted(t.get_text()[:14] for t in axes.texts) == ["(2) same [a]", "same [b] (1)"]
