import json
import math

import numpy as np
import pytest

from benchmarks.reporting import summing
from benchmarks.reporting.runs import Run
from benchmarks.reporting.summary import load_summary, narrow_summary, save_summary
from benchmarks.results import Store
from benchmarks.specs import plan_kernels
from benchmarks.suite_files import load_suites

SUITE = """
kind: quality
dataset: digits
bits: [12, 24]
seeds: [0, 1]
epochs: 4
decay: 0.4
batch_size: 128
timeout_s: 60
methods:
  - {name: itq, options: {iterations: 7}}
  - supcon
tuning: {trials: 2, seeds: [7]}
"""
KERNELS = """
kind: kernels
repeats: 3
batch_size: 16
bits: 16
queries: 5
database: 50
classes: 4
timeout_s: 1
"""
MADE = {"code": "c0de", "git": None, "versions": {"torch": "2"}, "cpu": "a processor"}
SPLIT = {"protocol": "digits", "checksum": "abc", "sizes": {}}


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "s.yml").write_text(SUITE)
    return load_suites(str(tmp_path / "s.yml"))[0]


@pytest.fixture
def summary(suite):
    return summing.of_quality([(suite, runs_of(suite))], "a command")


def runs_of(suite):
    """Give every run of a suite a value of its own, or a reason to have none."""
    runs = []
    for row in suite.rows:
        for bits in suite.bits:
            for seed in suite.seeds:
                record, metrics = {**MADE, "split": SPLIT}, {"map": bits / 100 + seed}
                if row.name == "supcon" and bits == 24:
                    metrics = {}
                    record = (
                        {"error": "Traceback\nBoom: no luck\n", **MADE} if seed else None
                    )
                if row.name == "supcon.float" and bits == 24:
                    record, metrics = {"refused": "no labels", **MADE}, {}
                if row.name == "itq" and (bits, seed) == (24, 1):
                    metrics["map"] = math.nan
                runs.append(Run(row, bits, seed, record, metrics))
    return runs


@pytest.fixture
def timed(tmp_path):
    """Time three kernels, one of which failed: (summary, names)."""
    (tmp_path / "k.yml").write_text(KERNELS)
    (suite,) = load_suites(str(tmp_path / "k.yml"))
    names = ["map/argsort", "map/pml", "loss/DPSHLoss"]
    store, specs = Store(tmp_path / "out"), plan_kernels(suite, names)
    ours, peer = np.array([1.0, 4.0, 2.0]), np.array([2.0, 2.0, 2.0])
    store.save(specs[0], {"peer": "numpy", **MADE}, {"ours_s": ours, "peer_s": peer})
    store.save(specs[1], {"error": "boom", **MADE}, {})
    return summing.of_kernels(suite.name, specs, store, "a command")


def test_values_lie_by_metric_length_and_seed(summary):
    assert (summary["suite"], summary["kind"]) == ("s", "quality")
    assert summary["origins"] == [{**MADE, "device": "cpu"}]
    digits = summary["datasets"]["digits"]
    assert digits["recipe"]["epochs"] == 4
    assert digits["tuning"] is None
    assert digits["splits"] == {"0": ["digits abc"], "1": ["digits abc"]}
    itq, signs, floats = digits["rows"].values()
    assert list(digits["rows"]) == ["itq", "supcon", "supcon.float"]
    assert itq["values"] == {
        "map": {"12": {"0": 0.12, "1": 1.12}, "24": {"0": 0.24, "1": None}}
    }
    assert itq["settings"] == {"iterations": 7}
    assert (itq["missing"], signs["values"]) == (
        {},
        {"map": {"12": {"0": 0.12, "1": 1.12}}},
    )
    assert signs["missing"] == {"24": {"0": "no result", "1": "failed: Boom: no luck"}}
    assert floats["missing"]["24"]["1"] == "refused: no labels"
    assert floats["encoding"] == "float"


def test_a_kernel_has_the_quartiles_of_its_ratio(timed):
    done, failed, absent = timed["kernels"].values()
    assert done["ratio"] == {"low": 0.75, "median": 1.0, "high": 1.5}  # of 1/2, 2, 1
    assert (done["peer"], done["spec"]["database"]) == ("numpy", 50)
    assert failed["ratio"] is None
    assert absent["ratio"] is None


def test_a_file_holds_what_was_saved(summary, timed, suite, tmp_path):
    for name, each in (("q", summary), ("k", timed)):
        path = tmp_path / "new" / f"{name}.json"
        save_summary(path, each)
        assert load_summary(path) == each
        assert "NaN" not in path.read_text()
    again = summing.of_quality([(suite, runs_of(suite)[::-1])], "a command")
    assert again == summary  # in whatever order runs end


def test_splits_that_disagree_are_all_kept(suite):
    runs = runs_of(suite)
    runs[0].record["split"] = {"checksum": "other"}
    found = summing.of_quality([(suite, runs)], "c")["datasets"]["digits"]["splits"]
    assert found["0"] == ["digits abc", "digits other"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(format=3), 'no summary of "format": 1 or 2'),
        (lambda s: s.update(format=2), "is not understood in full"),
        (lambda s: s.update(kind="speed"), "kind must be quality or kernels, got 'speed'"),
        (lambda s: s.pop("origins"), r"must have \['command', .*'suite'\], got"),
        (lambda s: s.update(more=1), "got .*'more'"),
        (
            lambda s: s["datasets"]["digits"]["rows"]["itq"]["values"]["map"].update(x=3),
            "datasets: digits: rows: itq: values: map: x: expected a mapping, got '3'",
        ),
        (
            lambda s: s["datasets"]["digits"]["rows"]["itq"]["values"]["map"]["12"].update(
                {"0": True}
            ),
            "map: 12: 0: expected a number, got 'True'",
        ),
        (lambda s: s["datasets"].update(digits=None), "digits: expected a mapping"),
    ],
)
def test_what_is_no_summary_is_named(change, message, summary, tmp_path):
    change(summary)
    (tmp_path / "x.json").write_text(json.dumps(summary))
    with pytest.raises(ValueError, match=message):
        load_summary(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ('{"format": NaN}', "NaN is no JSON number"),
        ("[]", "no summary of"),
        (None, "there is no summary .*x.json"),
    ],
)
def test_what_is_no_json_is_named(text, message, tmp_path):
    if text is not None:
        (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_summary(tmp_path / "x.json")


def test_narrowed_as_a_suite_is(summary, timed):
    found = narrow_summary(summary, ["digits"], ["supcon"], [12], [1])["datasets"]["digits"]
    assert list(found["rows"]) == ["supcon", "supcon.float"]
    assert found["rows"]["supcon"]["values"] == {"map": {"12": {"1": 1.12}}}
    assert found["rows"]["supcon"]["missing"] == {}
    assert list(found["splits"]) == ["1"]
    assert narrow_summary(summary, ["other"])["datasets"] == {}
    assert narrow_summary(summary) == summary
    assert list(narrow_summary(timed, methods=["map/pml"])["kernels"]) == ["map/pml"]
