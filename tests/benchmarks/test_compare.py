import copy
import json

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.reporting import compare, summing
from benchmarks.reporting.runs import collect
from benchmarks.reporting.summary import save_summary
from benchmarks.results import Store
from benchmarks.specs import plan_kernels
from benchmarks.suite_files import load_suites
from tests.benchmarks.test_summary import KERNELS, MADE

SEEDS = ("0", "1")


@pytest.fixture(scope="module")
def original(finished, smoke_file):
    """Sum up the smoke suite: rows itq and supcon_nm, 12 bits, two seeds."""
    (suite,), store = load_suites(str(smoke_file)), Store(finished[-1])
    return summing.of_quality([(suite, collect(suite, store))], "c")


@pytest.fixture
def judge(original, finished, smoke_file, tmp_path, capsys):
    """Compare the smoke suite with a doctored baseline: (exit status, words, errors)."""

    def call(doctor, *more):
        baseline = copy.deepcopy(original)
        doctor(baseline)
        save_summary(tmp_path / "baseline.json", baseline)
        arguments = ["--suite", smoke_file, "--out", finished[-1], *more]
        where = ["--baseline", tmp_path / "baseline.json"]
        status = main([str(word) for word in ("compare", *arguments, *where)])
        printed = capsys.readouterr()
        return status, " ".join(printed.out.split()), printed.err

    return call


def rows(baseline):
    return baseline["datasets"]["digits"]["rows"]


def raised(row="itq", metric="map", **by_seed):
    """Make a baseline that was better: what to add, by seed."""

    def doctor(baseline):
        values = rows(baseline)[row]["values"][metric]["12"]
        for seed, more in by_seed.items():
            values[seed[1:]] += more

    return doctor


def test_the_same_results_are_all_well(judge):
    status, words, _ = judge(lambda baseline: None)
    assert status == 0
    assert words.startswith("all well: ")
    assert words.endswith(" same")
    assert words.count(",") == 0


def test_a_drop_beyond_two_standard_errors_is_a_regression(judge):
    # mean 0.022, standard deviation 0.01 x sqrt(2), standard error 0.01
    status, words, _ = judge(raised(s0=0.012, s1=0.032))
    assert status == 1
    assert "| worse | digits | itq, 12 bits, mAP@all |" in words
    assert "-0.0220 over 2 seeds, two errors 0.0200" in words
    assert "REGRESSION: 1 worse, " in words


def test_a_drop_within_two_standard_errors_is_none(judge):
    # mean 0.019, and as much spread
    status, words, _ = judge(raised(s0=0.009, s1=0.029))
    assert status == 0
    assert "| within noise | digits | itq, 12 bits, mAP@all |" in words
    assert "all well: 1 within noise, " in words


def test_a_rise_is_better(judge):
    status, words, _ = judge(raised(s0=-0.02, s1=-0.03))
    assert status == 0
    assert "| better | digits | itq, 12 bits, mAP@all |" in words


def test_without_spread_or_a_second_seed_every_drop_counts(judge):
    assert judge(raised(s0=1e-4, s1=1e-4))[0] == 1
    assert judge(raised(s0=1e-11, s1=1e-11))[0] == 0
    assert judge(raised(s1=1e-4), "--seeds", 1)[0] == 1
    assert judge(raised(s1=1e-4), "--seeds", 0)[0] == 0


def test_a_missing_row_or_run_is_a_regression(judge):
    def add_row(baseline):
        rows(baseline)["gone"] = rows(baseline)["itq"] | {"entry": "gone"}

    status, words, _ = judge(add_row)
    assert (status, "| missing | digits | gone |" in words) == (1, True)
    assert judge(add_row, "--methods", "itq", "supcon_nm")[0] == 0  # not asked for

    def let_it_work(baseline):  # what fails now has a value in the baseline
        rows(baseline)["broken"]["values"] = {"map": {"12": {"0": 0.5, "1": 0.5}}}

    status, words, _ = judge(let_it_work)
    assert status == 1
    assert "12 bits, seed 0; 12 bits, seed 1: failed: ValueError: Invalid learn" in words

    def add_data_set(baseline):
        baseline["datasets"]["other"] = baseline["datasets"]["digits"]

    status, words, _ = judge(add_data_set)
    assert (status, "| missing | other | the whole data set" in words) == (1, True)


def test_a_new_row_is_a_note(judge):
    status, words, _ = judge(lambda baseline: rows(baseline).pop("itq"))
    assert (status, "| new | digits | itq |" in words) == (0, True)


def test_what_was_made_otherwise_is_named_and_not_compared(judge):
    def set_iterations(baseline):
        rows(baseline)["itq"]["settings"]["iterations"] = 3
        raised(s0=0.5, s1=0.5)(baseline)

    status, words, _ = judge(set_iterations)
    assert status == 1
    assert "| not comparable | digits | itq | – | – | iterations: 3 -> " in words
    assert "worse" not in words

    def change_split(baseline):
        baseline["datasets"]["digits"]["splits"]["1"] = ["digits other"]
        raised(s1=0.5)(baseline)

    status, words, _ = judge(change_split)
    assert status == 1
    assert "| not comparable | digits | seeds 1 | – | – | other splits |" in words
    assert "itq" not in words  # the other seed is as it was

    def change_recipe(baseline):
        baseline["datasets"]["digits"]["recipe"]["epochs"] = 5

    status, words, _ = judge(change_recipe)
    assert (status, "epochs: 5 -> 4" in words, "same" in words) == (1, True, False)


def test_the_worst_comes_first(judge):
    def doctor(baseline):
        raised(s0=0.02, s1=0.03)(baseline)
        raised("supcon_nm", s0=0.2, s1=0.3)(baseline)
        rows(baseline)["gone"] = rows(baseline)["itq"]

    words = judge(doctor)[1]
    places = [words.index(f"| digits | {name}") for name in ("gone", "supcon_nm", "itq")]
    assert places == sorted(places)


def test_other_versions_are_pointed_out(judge):
    def doctor(baseline):
        baseline["origins"][0]["versions"]["torch"] = "1.0"

    status, words, _ = judge(doctor)
    assert status == 0
    assert "note: only in the baseline: torch 1.0" in words
    assert "note: only in the results: torch 2" in words


def test_what_is_not_understood_is_said(judge, tmp_path):
    status, _, errors = judge(lambda baseline: baseline.update(suite="another"))
    assert (status, "suite 'another', the results are of 'smoke'" in errors) == (2, True)
    status, _, errors = judge(lambda baseline: baseline.pop("origins"))
    assert (status, "must have" in errors) == (2, True)
    status, _, errors = judge(lambda baseline: rows(baseline).clear())
    assert (status, "nothing to compare" in errors) == (2, True)


def test_the_baseline_is_a_published_summary_by_default(finished, smoke_file, capsys):
    assert main(["compare", "--suite", str(smoke_file), "--out", str(finished[-1])]) == 2
    error = capsys.readouterr().err
    assert "there is no summary" in error
    assert "docs/results/smoke/summary.json" in error


def test_a_run_leaves_summary_and_statistics(finished):
    folder = finished[-1] / "smoke"
    assert json.loads((folder / "summary.json").read_text())["kind"] == "quality"
    text = (folder / "table.md").read_text()
    assert text.index("### Details") < text.index("### Statistics")
    assert "2 blocks are too few for any claim" in text


@pytest.fixture
def race(tmp_path, capsys):
    """Compare kernels of ratio 1, 0.5 and 2 with a doctored baseline."""
    path, names = tmp_path / "k.yml", ["map/argsort", "map/pml", "loss/DPSHLoss"]
    path.write_text(KERNELS)
    (suite,), store = load_suites(str(path)), Store(tmp_path / "out")
    for spec, ratio in zip(plan_kernels(suite, names), (1.0, 0.5, 2.0), strict=True):
        arrays = {"ours_s": np.full(3, ratio), "peer_s": np.ones(3)}
        store.save(spec, {"peer": "a peer", **MADE}, arrays)
    original = summing.of_kernels("k", plan_kernels(suite), store, "c")

    def call(doctor, *more):
        baseline = copy.deepcopy(original)
        doctor(baseline["kernels"])
        save_summary(tmp_path / "b.json", baseline)
        where = ["--out", tmp_path / "out", "--baseline", tmp_path / "b.json"]
        words = ["compare", "--suite", path, *where, *more]
        return main([str(word) for word in words]), " ".join(
            capsys.readouterr().out.split()
        )

    return call


def timed(name, ratio):
    def doctor(baseline):
        baseline[name]["ratio"]["median"] = ratio

    return doctor


def test_a_kernel_is_worse_if_its_ratio_is_a_fifth_higher(race):
    assert race(lambda baseline: None) == (0, "all well: 3 same")
    status, words = race(timed("map/argsort", 1 / 1.2))
    assert status == 1
    assert "| worse | kernels | map/argsort | 0.8333 | 1.0000 | time +20% |" in words
    assert "REGRESSION: 1 worse, 2 same" in words
    status, words = race(timed("map/argsort", 1 / 1.19))
    assert (status, "| within noise | kernels | map/argsort" in words) == (0, True)
    status, words = race(timed("loss/DPSHLoss", 4.0))
    assert (status, "| better | kernels | loss/DPSHLoss" in words) == (0, True)


def test_kernels_that_are_missing_new_or_of_other_sizes(race):
    status, words = race(lambda base: base.update(gone=base["map/pml"]))
    assert (status, "| missing | kernels | gone | 0.5000 |" in words) == (1, True)
    gone = ["--methods", "map/pml"]
    assert race(lambda base: base.update(gone=base["map/pml"]), *gone)[0] == 0
    status, words = race(lambda base: base.pop("map/pml"))
    assert (status, "| new | kernels | map/pml" in words) == (0, True)
    status, words = race(lambda base: base["map/pml"]["spec"].update(database=9))
    assert status == 1
    assert "| not comparable | kernels | map/pml | – | – | database: 9 -> 50 |" in words
    status, words = race(lambda base: base["map/pml"].update(peer="another"))
    assert (status, "peer: another -> a peer" in words) == (1, True)


def test_of_two_standard_errors_by_hand():
    before, now = (0.5, 0.6, 0.9), (0.4, 0.55, 0.87)
    found = compare.quality("d", "a row", "map", list(zip(before, now, strict=True)))
    differences = np.array(now) - np.array(before)
    error = np.sqrt(((differences - differences.mean()) ** 2).sum() / 2) / np.sqrt(3)
    assert found.loss == pytest.approx(-differences.mean())
    assert found.verdict == ("worse" if found.loss > 2 * error else "within noise")
    assert found.verdict == "worse"
