"""Examples and notebooks run, and leave what they say they leave."""

import io
import json
import os
import re
import runpy
import signal
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

from tests.processes import exit_codes, run_as_torchrun, start

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore:.*is missing")  # PML's advice to have a miner
@pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # torch's exporter
@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("pml_after", r"hamming_map_level0': 0\.[89]"),
        ("embeddings_without_labels", r"0\.[89]\d of the first ten"),
        ("multilabel", r"trained, 24 bits: 0\.8"),
        ("index_and_store", r"SQLite: \[\(0,"),
        ("onnx_export", r"3 bytes an item; (1\.0|0\.999)"),
        ("many_rows", r"3000 rows, 18000 bytes of codes"),
        ("pq_or_codes", r"16, Hasher: 0\.\d\d, 0\.9"),
    ],
    ids=lambda value: value if value.isidentifier() else "",
)
def test_examples_run(name, printed, capfd, monkeypatch):
    monkeypatch.setattr("sys.argv", [name])  # none of those of pytest
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert re.search(printed, capfd.readouterr().out)


def test_all_examples_have_a_test():
    text = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        # Of the script before nothing is ours; test_readme.py compares it with the other
        assert path.stem == "pml_before" or f'"{path.stem}' in text, path.name


def resume(folder, killed_at=None):
    """Run the example in this process, and kill it once it has printed some words."""

    class Printed(io.TextIOWrapper):
        def write(self, text):
            super().write(text)
            if killed_at is not None and text.startswith(killed_at):
                self.flush()
                os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    with Printed((folder / "printed.txt").open("wb")) as file, redirect_stdout(file):
        sys.argv = ["resume.py", str(folder)]
        runpy.run_path(str(EXAMPLES / "resume.py"), run_name="__main__")


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    assert exit_codes(start(resume, whole), start(resume, killed, "epoch 3")) == [
        0,
        -signal.SIGKILL,
    ]
    assert (killed / "printed.txt").read_text().splitlines()[-1].startswith("epoch 3")
    assert exit_codes(start(resume, killed)) == [0]
    whole, rest = ((each / "printed.txt").read_text() for each in (whole, killed))
    assert rest.startswith("epoch 4")
    assert rest.splitlines()[-1] == whole.splitlines()[-1]
    assert rest.splitlines()[-1].startswith("checksum")


def test_two_processes_merge_alike(tmp_path):
    first, second = run_as_torchrun(2, EXAMPLES / "ddp.py", tmp_path)
    assert "2 processes merged to 12 bits" in first
    assert second == ""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_print_what_they_show(path, capsys):
    from matplotlib import pyplot

    pyplot.close("all")  # what other tests of this process left open
    names = {"__name__": path.stem}
    drawn = 0
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        code = "".join(cell["source"]).replace("%matplotlib inline", "")
        exec(compile(code, path.name, "exec"), names)
        shown = [o for o in cell["outputs"] if o.get("name") == "stdout"]
        stored = "".join("".join(o["text"]) for o in shown)
        # Numbers may differ in their last place on another machine
        out = capsys.readouterr().out
        assert re.sub(r"\d\.\d+", "", out) == re.sub(r"\d\.\d+", "", stored)
        has_picture = any("image/png" in o.get("data", {}) for o in cell["outputs"])
        assert bool(pyplot.get_fignums()) == has_picture
        drawn += has_picture
        pyplot.close("all")
    assert drawn >= 4
