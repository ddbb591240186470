"""A suite of several data sets, one of several labels an item, through the command line."""

import numpy as np
import pytest
import yaml

from benchmarks import commands
from benchmarks.__main__ import main
from benchmarks.running import runner
from tests.benchmarks.conftest import in_this_process
from tests.benchmarks.test_cli import records

SUITE = """
kind: quality
datasets: ["features:sets/rows.npz", "features:sets/ids.npz:unseen"]
bits: [6]
seeds: [0]
epochs: 5
decay: 0.4
batch_size: 16
timeout_s: 60
methods: [itq, triplet, supcon, proxy_anchor, dpsh, supcon_nm]
tuning: {trials: 2, seeds: [7]}
"""


@pytest.fixture
def arguments(tmp_path, monkeypatch, one_thread):
    monkeypatch.setattr(runner, "run_jobs", in_this_process)
    rng, folder = np.random.default_rng(0), tmp_path / "data" / "sets"
    folder.mkdir(parents=True)
    features = rng.random((160, 12), np.float32).astype(np.float16)
    rows = (rng.random((160, 5)) < 0.4).astype(np.uint8)
    np.savez(folder / "rows.npz", features=features, labels=rows)
    np.savez(folder / "ids.npz", features=features, labels=np.arange(160) % 8)
    (tmp_path / "s.yml").write_text(SUITE)
    root = ["--data-root", str(tmp_path / "data")]
    where = ["--suite", str(tmp_path / "s.yml"), "--out", str(tmp_path / "out")]
    return [*where, "--jobs", "1"], root


def test_every_data_set_has_its_table(arguments, tmp_path, capsys, monkeypatch):
    where, root = arguments
    assert main(["run", *where, *root]) == 0
    printed = capsys.readouterr()
    assert "12 runs done, 0 skipped, 0 failed" in printed.out
    assert "note: 1 of the runs are of methods that do not suit" in printed.err
    text = (tmp_path / "out" / "s" / "table.md").read_text()
    several, single = text.split("## Suite `s`: features:sets/ids.npz:unseen")
    single, both = single.split("## All data sets")
    assert "2 blocks (data sets: 2, lengths: 1, seeds: 1)" in both
    assert "Left out (1 of 2 blocks): sign(ProxyAnchor).\n" in both
    assert "### Statistics" not in several + single  # one block each
    assert "NDCG@all, 6 bits" in several
    assert "NDCG" not in single
    (row,) = [r for r in several.splitlines() if r.startswith("| sign(ProxyAnchor)")][:1]
    assert row.count(" no ") == 3  # two metrics, and real queries
    assert (
        "no: sign(ProxyAnchor) does not suit this data set (ProxyAnchorLoss owns" in several
    )
    assert "Each seed draws its own split (112 train" in several
    assert "Unseen classes (" in single
    assert "sign(ProxyAnchor) | 0." in " ".join(single.split())
    pictures = sorted(path.name for path in (tmp_path / "out" / "s").glob("*.png"))
    ends = ("features_sets_ids.npz_unseen", "features_sets_rows.npz")
    assert pictures == [f"map_vs_bits_{end}.png" for end in ends]
    assert sorted(p.name for p in (tmp_path / "out" / "s").iterdir() if p.is_dir()) == [
        *ends
    ]
    for record in records(tmp_path / "out"):
        assert str(tmp_path) not in str(record["spec"])  # where the data lie is no matter

    with monkeypatch.context() as patch:  # of the report, which is there
        patch.setattr(commands, "_report", lambda *arguments: None)
        assert main(["run", *where, *root]) == 0
    assert "0 runs done, 12 skipped, 0 failed" in capsys.readouterr().out
    whole = tmp_path / "out" / "s"
    before = {p.name: p.read_bytes() for p in whole.iterdir() if p.is_file()}
    assert main(["report", *where, "--dataset", "features:sets/rows.npz"]) == 0
    assert "ids.npz" not in (whole / ends[1] / "table.md").read_text()
    assert not (whole / ends[0] / "table.md").exists()
    assert {p.name: p.read_bytes() for p in whole.iterdir() if p.is_file()} == before
    assert (whole / ends[1] / f"map_vs_bits_{ends[1]}.png").exists()


def test_a_data_set_is_tuned_on_its_own(arguments, tmp_path, capsys):
    where, root = arguments
    rows = ["--dataset", "features:sets/rows.npz"]
    methods = ["--methods", "itq", "proxy_anchor"]
    assert main(["tune", *where, *root, *rows, *methods]) == 0
    path = tmp_path / "s_features_sets_rows.npz_tuned.yml"
    tuned = yaml.safe_load(path.read_text())
    assert "NDCG@all if" in tuned["criterion"]
    assert "owns a weight vector" in tuned["methods"]["proxy_anchor"]["refused"]
    assert set(tuned["methods"]["itq"]) == {"settings", "score"}
    record = tmp_path / "out" / "s-tune" / "features_sets_rows.npz_trials.yml"
    assert len(yaml.safe_load(record.read_text())["methods"]["itq"]["trials"]) == 2
    assert main(["run", *where, *root, *rows, *methods]) == 0
    place = tmp_path / "out/s/features_sets_rows.npz/table.md"
    assert "chosen from 2 random trials" in place.read_text()
    assert main(["report", *where, *rows]) == 2
    assert "tune --suite s --dataset features:sets/rows.npz" in capsys.readouterr().err


def test_a_set_that_the_suite_does_not_name_is_run_and_tuned(arguments, tmp_path, capsys):
    where, root = arguments
    other = ["--dataset", "features:sets/ids.npz"]
    methods = ["--methods", "itq", "supcon"]
    assert main(["run", *where, *root, *other, *methods]) == 0
    place = tmp_path / "out" / "s" / "features_sets_ids.npz" / "table.md"
    text = place.read_text()
    assert "nothing was tuned" in text
    assert main(["tune", *where, *root, *other, *methods]) == 0
    assert (tmp_path / "s_features_sets_ids.npz_tuned.yml").exists()
    assert main(["run", *where, *root, *other, *methods]) == 0
    text = place.read_text()
    assert "chosen from 2 random trials" in text
    assert not (tmp_path / "out" / "s" / "table.md").exists()
    assert f"--suite {tmp_path / 's.yml'} --dataset features:sets/ids.npz" in text


@pytest.mark.usefixtures("no_report")
def test_a_missing_data_set_fails_its_runs_alone(arguments, tmp_path, monkeypatch, capsys):
    path = tmp_path / "s.yml"
    path.write_text(SUITE.replace('"features:sets/ids.npz:unseen"', "digits"))
    monkeypatch.delenv("PML_NMLAYER_DATA", raising=False)
    status = main(["run", *arguments[0], "--methods", "itq"])
    assert status == 1
    printed = capsys.readouterr()
    assert "1 runs done, 0 skipped, 1 failed" in printed.out
    said = "failed: itq on features:sets/rows.npz, 6 bits, seeds 0: ValueError: there is no"
    assert printed.err.count(said) == 1
    (error,) = [r["error"] for r in records(tmp_path / "out") if "error" in r]
    assert "there is no features data set" in error
    assert "--data-root DIR" in error
