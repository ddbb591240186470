import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.reporting import figures, insides, pictures, standing
from benchmarks.reporting.metrics import METRICS
from benchmarks.reporting.runs import Run
from benchmarks.reporting.tables import main_table
from benchmarks.results import Store
from benchmarks.specs import spec_of
from benchmarks.suite_files import load_suite
from benchmarks.suites import Entry, Row

SUITE = """
kind: quality
dataset: digits
bits: [3]
seeds: [0, 1]
epochs: 5
decay: 0.4
batch_size: 16
timeout_s: 60
methods: [itq, {name: supcon, encodings: [sign, float]}, supcon_nm]
"""


def row(name, encoding="code", method="itq", family="other"):
    entry = Entry(name, method, name.upper(), {}, (encoding,), family=family)
    return Row(entry, encoding)


def run(row, value, bits=8, seed=0):
    metrics = {} if value is None else {"map": value}
    return Run(row, bits, seed, {"train_s": 1.0}, metrics)


def value(run):
    return run.metrics["map"]


def test_means_need_every_run():
    a, b, c = row("a"), row("b"), row("c")
    runs = [run(a, 0.5), run(a, 0.7, seed=1), run(b, 0.5), run(b, None, seed=1)]
    runs += [run(c, float("nan")), run(a, 0.25, bits=16)]
    assert standing.means(runs, value) == pytest.approx({("a", 8): 0.6, ("a", 16): 0.25})


def test_ranks_share_places_and_leave_floats_out():
    rows = [row("a"), row("b"), row("c"), row("d", "float")]
    means = {("a", 8): 0.5, ("b", 8): 0.7, ("c", 8): 0.5, ("d", 8): 0.9, ("a", 16): 0.1}
    found = standing.ranks(rows, means)
    assert found == {("a", 8): 2, ("b", 8): 1, ("c", 8): 2, ("a", 16): 1}


def test_few_rows_are_all_in_colour_and_of_many_the_best_with_their_family():
    rows = [row(f"x{i:02}") for i in range(30)]
    rows[7] = row("x07", method="dpsh", family="direct")
    rows += [row("merged", method="dpsh_nm", family="nm"), row("x29", "float")]
    means = {(r.name, 8): i / 100 for i, r in enumerate(rows)}
    means["merged", 8] = 0.285  # below x29 (0.29), above x28
    assert standing.highlights(rows[:10], means, [8]) == rows[:10]
    names = [r.entry.name for r in standing.highlights(rows, means, [8])]
    assert names == ["x07", *(f"x{i}" for i in range(22, 30)), "merged"]
    assert standing.highlights(rows, {}, [8]) == rows[:10]


def test_grey_rows_have_no_label_and_floats_are_dashed():
    rows = [row("a"), row("b"), row("c", "float")]
    look = figures.looks(rows, [rows[0], rows[2]])
    assert [look[r.name].label for r in rows] == ["A", None, "C, float32"]
    assert [look[r.name].style for r in rows[1:]] == ["-", "--"]
    assert look["b"].color == figures.GREY
    many = [row(f"r{i}") for i in range(12)]
    drawn = {(each.color, each.marker) for each in figures.looks(many, many).values()}
    assert len(drawn) == 12


@pytest.fixture
def stored(tmp_path):
    """Small random codes of all rows at 3 bits, two seeds: (suite, runs, store)."""
    (tmp_path / "s.yml").write_text(SUITE)
    suite, store = load_suite(str(tmp_path / "s.yml")), Store(tmp_path)
    runs = []
    for row in suite.rows:
        for seed in suite.seeds:
            rng = np.random.default_rng(seed)
            arrays = {"query_labels": np.array([0, 1]), "database_labels": np.arange(6) % 2}
            for name in (n for n in row.entry.encodings if n != "float"):
                for part, count in (("query", 2), ("database", 6)):
                    bits = rng.integers(2, size=(count, 3))
                    arrays[f"{part}_{name}"] = np.packbits(bits, axis=1)
            split = {"protocol": "digits", "sizes": {"test": 2, "database": 6}}
            record = {"train_s": 1.0 + seed, "split": split}
            store.save(spec_of(suite, row.entry, 3, seed), record, arrays)
            runs.append(Run(row, 3, seed, record, {"map": 0.5}))
    return suite, runs, store


def ball(arrays, radius):
    """Mean precision and recall within a radius, by plain loops over stored codes."""
    precisions, recalls = [], []
    for code, label in zip(arrays["query_code"], arrays["query_labels"], strict=True):
        found = hits = total = 0
        for other, its in zip(
            arrays["database_code"], arrays["database_labels"], strict=True
        ):
            near = (
                sum((int(a) ^ int(b)).bit_count() for a, b in zip(code, other, strict=True))
                <= radius
            )
            found, hits, total = (
                found + near,
                hits + (near and its == label),
                total + (its == label),
            )
        if found:
            precisions.append(hits / found)
        recalls.append(hits / total)
    return np.mean(precisions) if precisions else np.nan, np.mean(recalls)


def lines_of(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_curves_are_means_over_queries_and_seeds(stored):
    suite, runs, store = stored
    look = figures.looks(suite.rows, suite.rows)
    axes, *others = pictures.precision_recall(suite, runs, store, look).figure.axes
    assert not others
    drawn = lines_of(axes)
    assert set(drawn) == {r.label for r in suite.rows if r.encoding != "float"}
    loaded = [
        store.load_arrays(spec_of(suite, suite.entries[0], 3, seed)) for seed in (0, 1)
    ]
    balls = np.array([[ball(arrays, r) for r in range(4)] for arrays in loaded])
    points = [(r, p) for p, r in balls.mean(0) if not np.isnan(p)]
    assert len(points) >= 3
    np.testing.assert_allclose(drawn["ITQ on raw features"], points, atol=1e-12)


def test_costs_are_means_of_seconds_and_metric(stored):
    suite, runs, _ = stored
    look = figures.looks(suite.rows, suite.rows[1:])
    metric = METRICS["map"]
    (axes,) = pictures.training_cost(suite, runs, metric, look).figure.axes
    offsets = [each.get_offsets().tolist() for each in axes.collections]
    assert offsets == [[[1.5, 0.5]]] * 4  # the grey one, and three with a name
    named = [each.get_label() for each in axes.collections[1:]]
    assert named == [row.label for row in suite.rows[1:]]
    assert axes.get_xscale() == "log"


def test_bits_are_shown_by_importance_and_by_group():
    axes = Figure().subplots()
    figures.bars(axes, np.array([0.1, 0.3, -0.2]), "t")
    assert [bar.get_height() for bar in axes.patches] == [0.3, 0.1, -0.2]

    figure = Figure()
    axes = figure.subplots()
    correlation = np.array([[0, -0.5, 0.9], [-0.5, 0, 0.2], [0.9, 0.2, 0]])
    figures.heat_map(figure, axes, correlation, np.array([1, 0, 1]))
    by_group = [[0, 0.5, 0.2], [0.5, 0, 0.9], [0.2, 0.9, 0]]  # bits 1, 0, 2
    np.testing.assert_array_equal(axes.images[0].get_array(), by_group)
    frames = [(*each.get_xy(), each.get_width()) for each in axes.patches]
    assert frames == [(-0.5, -0.5, 1), (0.5, 0.5, 2)]


def test_diagnostics_come_from_the_best_row_that_has_them(stored):
    suite, runs, store = stored
    arrays = {f"diagnostic_importance_{when}": np.ones(3) for when in ("start", "end")}
    arrays |= {
        "diagnostic_correlation_1": np.eye(6),
        "diagnostic_groups_1": np.arange(6) % 3,
    }
    drawn = insides.merging(suite, runs, store, suite.rows)
    assert [each.figure for each in drawn] == [None, None]
    assert "No stored run" in drawn[0].caption
    spec = spec_of(suite, suite.entry("supcon_nm"), 3, 1)
    store.save(spec, store.load(spec), {**store.load_arrays(spec), **arrays})
    other = suite.rows[0]  # the best row, and no NMLayer
    spec = spec_of(suite, other.entry, 3, 0)
    store.save(spec, store.load(spec), {**store.load_arrays(spec), **arrays})
    for rows in (suite.rows, suite.rows[::-1]):
        drawn = insides.merging(suite, runs, store, rows)
        said = "SupCon + NMLayer, 3 bits at the end, seed 1."
        assert all(said in d.caption for d in drawn)
    drawn = insides.merging(suite, runs, store, suite.rows[:1])
    assert all("ITQ on raw features, 3 bits at the end" in d.caption for d in drawn)


def test_ratios_are_drawn_from_one():
    axes = Figure().subplots()
    figures.ratio_bars(axes, ["fast", "slow"], np.array([[0.4, 0.5, 0.7], [1.5, 2, 3]]))
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert bars == [(1, 0.5), (1, 2)]
    (spread,) = axes.collections[-1:]
    ends = [sorted(path.vertices[:, 0].tolist()) for path in spread.get_paths()]
    assert ends == [[pytest.approx(0.4), 0.7], [1.5, 3]]


def test_the_main_table_ranks_means(stored):
    suite, runs, _ = stored
    runs = [
        Run(r.row, r.bits, r.seed, r.record, {"map": (0.5, 0.75, 1.0, 0.25)[i // 2]})
        for i, r in enumerate(runs)
    ]
    cells = [
        line.split(" | ")[1].strip() for line in main_table(suite, runs).splitlines()[2:]
    ]
    assert cells == [
        "0.500 ± 0.000 (2)",
        "**0.750 ± 0.000** (1)",
        "1.000 ± 0.000",
        "0.250 ± 0.000 (3)",
    ]


def test_balance_and_redundancy_of_bits_where_runs_stored_it(tmp_path):
    path = tmp_path / "s.yml"
    path.write_text(SUITE)
    suite, store = load_suite(str(path)), Store(tmp_path)
    rows = {row.name: row for row in suite.rows}
    runs = [
        run(rows[name], 0.5, 3, seed) for name in ("itq", "supcon_nm") for seed in (0, 1)
    ]
    assert insides.bits_table(suite, [], store) == ""
    for each in runs:
        arrays = {"query_code": np.zeros((2, 1), np.uint8)}
        if each.row.name == "supcon_nm":
            one_bit = np.array([0.0, 0.0, 0.0, 1 + each.seed])  # Gini 3/4 at any height
            alike = np.full(3, 0.25)
            arrays |= {
                "diagnostic_importance_start": one_bit,
                "diagnostic_importance_end": alike,
                "diagnostic_mean_abs_correlation": np.array(0.1 + 0.2 * each.seed),
            }
        store.save(spec_of(suite, each.row.entry, 3, each.seed), {"train_s": 1.0}, arrays)
    (line,) = [
        text
        for text in insides.bits_table(suite, runs, store).splitlines()
        if "| 3 " in text
    ]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    label = rows["supcon_nm"].label
    assert cells == [label, "3", "0.750 ± 0.000", "0.000 ± 0.000", "0.200 ± 0.141"]
