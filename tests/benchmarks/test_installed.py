"""The benchmarks from a wheel, away from the repository, on data of a user's own."""

import json
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


CALLS = """
import contextlib, io, json, sys
from benchmarks.__main__ import main

if __name__ == "__main__":
    done = []
    for words in json.loads(sys.argv[1]):
        with (
            contextlib.redirect_stdout(io.StringIO()) as output,
            contextlib.redirect_stderr(io.StringIO()) as errors,
        ):
            status = main(words)
        done.append((status, output.getvalue(), errors.getvalue()))
    print(json.dumps(done))
"""


def call(site, folder, *commands):
    """Call benchmarks of the wheel, in one process, in a folder of the user."""
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-c", CALLS, json.dumps(commands)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_own_data_with_names_for_labels(site, tmp_path):
    rng = np.random.default_rng(0)
    names = np.array(["owl", "a cat", "löwe", "fish"])[np.arange(160) % 4]
    features = rng.random((160, 64)) + 2 * np.eye(64)[np.arange(160) % 4]
    np.savez(tmp_path / "mine.npz", features=features.astype(np.float32), labels=names)
    before = {path for path in site.rglob("*") if "__pycache__" not in path.parts}
    suite = ["--suite", "quick", "--dataset", "features:mine.npz", "--jobs", "1"]
    data = ["--data-root", "."]
    chosen = ["--methods", "itq"]
    listed, tuned, done, compared, board = call(
        site,
        tmp_path,
        ["list"],
        ["tune", *suite, *data, *chosen],
        ["run", *suite, *data, *chosen, "--bits", "12", "--seeds", "5"],
        ["compare", *suite, *chosen],
        ["leaderboard"],
    )
    assert listed[0] == 0
    assert "quick" in listed[1]
    assert "dpsh_nm" in listed[1]

    assert tuned[0] == 0, tuned
    folder = tmp_path / "results" / "quick" / "features_mine.npz"
    assert "itq" in yaml.safe_load((folder / "tuned.yml").read_text())["methods"]

    assert done[0] == 0, done
    text = (folder / "table.md").read_text()
    assert "chosen from 10 random trials" in text
    winner = next(line for line in text.splitlines() if line.startswith("- Winner"))
    assert float(winner.split("(")[1][:5]) > 0.9  # four clusters far apart
    assert "sources" in text
    assert "commit" not in text  # of whatever repository lies around

    assert compared[0] == 2
    assert "name a summary.json by --baseline" in compared[2]
    assert board[0] == 0, board
    assert "features:mine.npz" in (tmp_path / "results/leaderboard.html").read_text()
    after = {path for path in site.rglob("*") if "__pycache__" not in path.parts}
    assert after == before  # nothing was written where packages lie
