"""Examples and notebooks run, and leave what they say they leave."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


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
        ("pq_or_codes", r"16, Hasher: 0\.\d\d, 0\.9"),
    ],
    ids=lambda value: value if value.isidentifier() else "",
)
def test_examples_run(name, printed, capfd):
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert re.search(printed, capfd.readouterr().out)


def test_all_examples_have_a_test():
    text = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        # Of the script before nothing is ours; test_readme.py compares it with the other
        assert path.stem == "pml_before" or f'"{path.stem}' in text, path.name


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    def start(folder):
        folder.mkdir(exist_ok=True)
        command = [sys.executable, str(EXAMPLES / "resume.py"), str(folder)]
        return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)

    whole, _ = start(tmp_path / "whole").communicate(timeout=120)
    process = start(tmp_path / "killed")
    for line in process.stdout:
        if line.startswith("epoch 3"):
            process.send_signal(signal.SIGKILL)
            break
    process.wait(timeout=60)
    process.stdout.close()
    rest, _ = start(tmp_path / "killed").communicate(timeout=120)
    assert "epoch 1" not in rest
    assert rest.splitlines()[-1] == whole.splitlines()[-1]
    assert rest.splitlines()[-1].startswith("checksum")


def test_two_processes_merge_alike():
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, "-m", *command, str(EXAMPLES / "ddp.py")],
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "2 processes merged to 12 bits" in done.stdout


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
