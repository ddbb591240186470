"""Data of one's own from file to table: what a class is called changes no figure."""

import json

import numpy as np

from benchmarks.__main__ import main
from benchmarks.running import runner
from tests.benchmarks.conftest import in_this_process

SUITE = """
kind: quality
datasets: ["features:plain.npz:both", "features:gaps.npz:both", "features:names.npz:both"]
bits: [8]
seeds: [0]
epochs: 1
decay: 0.5
batch_size: 32
timeout_s: 60
methods: [class_codes]
"""
IDS = {
    "plain": np.arange(8),
    "gaps": np.array([1, 3, 40, 41, 900, 901, 2**20, 2**40]),
    "names": np.array(["ant", "bee", "cat", "dog", "emu", "fox", "gnu", "hen"]),
}


def test_classes_may_have_any_ids(tmp_path, monkeypatch, one_thread):
    monkeypatch.setattr(runner, "run_jobs", in_this_process)
    generator = np.random.default_rng(0)
    rows = generator.permutation(np.repeat(np.arange(8), 30))
    centres = generator.standard_normal((8, 12))
    features = (centres[rows] + generator.standard_normal((240, 12))).astype(np.float32)
    for kind, ids in IDS.items():
        np.savez(tmp_path / f"{kind}.npz", features=features, labels=ids[rows])
    suite = tmp_path / "s.yml"
    suite.write_text(SUITE)
    where = ["--data-root", str(tmp_path), "--out", str(tmp_path), "--jobs", "1"]
    assert main(["run", "--suite", str(suite), *where]) == 0
    sets = json.loads((tmp_path / "s" / "summary.json").read_text())["datasets"]
    plain, *others = [
        {
            name: row["values"]
            for name, row in sets[f"features:{kind}.npz:both"]["rows"].items()
        }
        for kind in IDS
    ]
    assert 0 < plain["class_codes"]["map"]["8"]["0"] < 1
    assert others == [plain, plain]
