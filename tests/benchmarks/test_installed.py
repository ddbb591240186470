"""The benchmarks from a wheel, away from the repository, on data of a user's own."""

import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import yaml

from tests.benchmarks.conftest import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the wheel, and unpack it as an installer does."""
    pytest.importorskip("hatchling", reason="builds the wheel: pip install hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def benchmarks(site, tmp_path):
    """A call of `python -m benchmarks` with the wheel alone, in a folder of the user."""

    def call(*words):
        environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "benchmarks", *map(str, words)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return call


def test_names_are_listed(benchmarks):
    done = benchmarks("list")
    assert done.returncode == 0, done.stderr
    assert "quick" in done.stdout
    assert "dpsh_nm" in done.stdout


def test_own_data_with_names_for_labels(benchmarks, site, tmp_path):
    rng = np.random.default_rng(0)
    names = np.array(["owl", "a cat", "löwe", "fish"])[np.arange(160) % 4]
    features = rng.random((160, 64)) + 2 * np.eye(64)[np.arange(160) % 4]
    np.savez(tmp_path / "mine.npz", features=features.astype(np.float32), labels=names)
    before = {path for path in site.rglob("*") if "__pycache__" not in path.parts}
    suite = ["--suite", "quick", "--dataset", "features:mine.npz", "--jobs", "1"]
    data = ["--data-root", "."]
    chosen = ["--methods", "itq"]

    tuned = benchmarks("tune", *suite, *data, *chosen)
    assert tuned.returncode == 0, tuned.stderr
    folder = tmp_path / "results" / "quick" / "features_mine.npz"
    assert "itq" in yaml.safe_load((folder / "tuned.yml").read_text())["methods"]

    done = benchmarks("run", *suite, *data, *chosen, "--bits", "12", "--seeds", "5")
    assert done.returncode == 0, done.stderr
    text = (folder / "table.md").read_text()
    assert "chosen from 10 random trials" in text
    winner = next(line for line in text.splitlines() if line.startswith("- Winner"))
    assert float(winner.split("(")[1][:5]) > 0.9  # four clusters far apart
    assert "sources" in text
    assert "commit" not in text  # of whatever repository lies around

    compared = benchmarks("compare", *suite, *chosen)
    assert compared.returncode == 2
    assert "name a summary.json by --baseline" in compared.stderr
    board = benchmarks("leaderboard")
    assert board.returncode == 0, board.stderr
    assert "features:mine.npz" in (tmp_path / "results/leaderboard.html").read_text()
    after = {path for path in site.rglob("*") if "__pycache__" not in path.parts}
    assert after == before  # nothing was written where packages lie
