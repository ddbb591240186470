"""Metrics are kept beside results, and computed again only when they have to be."""

import os
import shutil

import numpy as np
import pytest

from benchmarks.pool import Outcome
from benchmarks.reporting import judging
from benchmarks.results import Store
from tests.benchmarks.conftest import ROOT

SPEC = {"suite": "s", "dataset": "d", "bits": 8, "seed": 0}
LABELS = {"query_labels": np.array([0, 1]), "database_labels": np.array([0, 1, 1])}


def arrays(second):
    """The first query is item 0 itself; the second one is as far from all as it says."""
    return {
        **LABELS,
        "query_code": np.array([[0], [second]], np.uint8),
        "database_code": np.array([[0], [255], [255]], np.uint8),
    }


@pytest.fixture
def calls(monkeypatch):
    seen = []
    judge = judging.judge
    monkeypatch.setattr(
        judging, "judge", lambda *args: seen.append(args[1]) or judge(*args)
    )
    return seen


def test_known_metrics_are_not_computed_again(tmp_path, calls):
    store = Store(tmp_path)
    assert judging.judged(store, SPEC) == {}  # no result, no metrics
    store.save(SPEC, {}, arrays(255))
    values = judging.judged(store, SPEC)
    assert values["code"]["map"] == 1
    assert judging.judged(store, SPEC) == values
    assert calls == [8]


def test_a_new_result_is_judged_anew(tmp_path, calls):
    store = Store(tmp_path)
    store.save(SPEC, {}, arrays(255))
    judging.judged(store, SPEC)
    store.save(SPEC, {}, arrays(0))  # now its own class is the furthest
    values = judging.judged(store, SPEC)
    assert calls == [8, 8]
    expected = (1 + (1 / 2 + 2 / 3) / 2) / 2
    np.testing.assert_allclose(values["code"]["map"], expected)


@pytest.mark.parametrize("change", ["rules", "time", "damage"])
def test_other_rules_or_a_damaged_file_count_as_unknown(
    tmp_path, calls, monkeypatch, change
):
    store = Store(tmp_path)
    store.save(SPEC, {}, arrays(255))
    before = judging.judged(store, SPEC)
    if change == "rules":
        monkeypatch.setattr(judging, "_rules", lambda: "others")
    elif change == "time":
        os.utime(store.path(SPEC).with_suffix(".npz"), (1, 1))
    else:
        store.path(SPEC).with_suffix(".metrics").write_text('{"of": ')
    assert judging.judged(store, SPEC) == before
    assert calls == [8, 8]


def test_several_runs_keep_their_order(tmp_path, calls):
    store = Store(tmp_path)
    specs = [{**SPEC, "seed": seed} for seed in range(3)]
    store.save(specs[0], {}, arrays(255))
    store.save(specs[2], {}, arrays(0))
    judging.judged(store, specs[2])
    found = judging.judged_all(store, specs, processes=0)
    assert [each.get("code", {}).get("map") for each in found][:2] == [1, None]
    assert found[2] == judging.judged(store, specs[2])
    assert len(calls) == 2


def test_a_report_that_is_cut_off_goes_on_from_there(tmp_path, calls, monkeypatch):
    store = Store(tmp_path)
    specs = [{**SPEC, "seed": seed} for seed in range(2)]
    for spec in specs:
        store.save(spec, {}, arrays(255))
    run_jobs = judging.run_jobs

    def stopped(function, jobs, *rest):
        yield 0, Outcome(function(jobs[0]))
        raise KeyboardInterrupt

    monkeypatch.setattr(judging, "run_jobs", stopped)
    with pytest.raises(KeyboardInterrupt):
        judging.judged_all(store, specs, processes=2)
    monkeypatch.setattr(judging, "run_jobs", run_jobs)
    found = judging.judged_all(store, specs, processes=2)  # the one that is left, here
    assert found[0] == found[1]
    assert len(calls) == 2


def test_rules_are_those_of_the_rooms_that_judge(tmp_path, monkeypatch):
    for room in judging._ROOMS:
        assert list((ROOT / "pml_nmlayer" / room).rglob("*.py")), room
    shutil.copytree(ROOT / "pml_nmlayer", tmp_path / "pml_nmlayer")
    judging._rules.cache_clear()
    before = judging._rules()
    monkeypatch.setattr(judging, "_ROOT", tmp_path)
    for name, decides in (("ranking", True), ("hamming", True), ("merging", False)):
        judging._rules.cache_clear()
        with (tmp_path / "pml_nmlayer" / name / "__init__.py").open("a") as file:
            file.write("# changed")
        after = judging._rules()
        assert (after != before) is decides, name
        before = after
    judging._rules.cache_clear()
