"""One small suite, run once through the real command line; many tests look at it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from benchmarks import commands
from benchmarks.pool import Outcome

ROOT = Path(__file__).resolve().parents[2]
SMOKE = """
kind: quality
dataset: digits
bits: [12]
seeds: [0, 1]
epochs: 4
decay: 0.4
batch_size: 128
timeout_s: 60
methods:
  - itq
  - {name: supcon_nm, options: {scorer: random}}
  - {name: broken, method: supcon, label: a broken method, options: {lr: -1.0}}
tuning: {trials: 2, seeds: [7]}
"""
MANY = SMOKE.replace("seeds: [0, 1]", "seeds: [0, 1, 2, 3, 4, 5, 6]").replace(
    "epochs: 4\n", "epochs: 30\n"
)


def in_this_process(function, jobs, processes, timeout_s, parents=False, until=None):
    """Stand in for `run_jobs`, without the seconds that a worker needs to start."""
    for index, job in enumerate(jobs):
        if until is not None and time.monotonic() >= until:
            return
        try:
            yield index, Outcome(function(job))
        except Exception:
            yield index, Outcome(error=traceback.format_exc())


def command(*arguments, **options):
    words = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Tests started in the background of a script inherit that Ctrl-C is ignored.
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(words, cwd=ROOT, start_new_session=True, **pipes, **options)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="session")
def smoke_file(folder):
    path = folder / "smoke.yml"
    path.write_text(SMOKE)
    return path


@pytest.fixture(scope="session")
def interrupted(folder):
    """Start a longer suite, press Ctrl-C once it has a result: (exit status, results)."""
    path, out = folder / "many.yml", folder / "interrupted"
    path.write_text(MANY)
    running = command("run", "--suite", path, "--jobs", 1, "--out", out)
    try:
        until = time.monotonic() + 120
        while not list(out.rglob("*.json")) and time.monotonic() < until:
            assert running.poll() is None, running.communicate()
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)  # a terminal signals the whole group
        _, errors = running.communicate(timeout=60)
    finally:
        running.kill()
    return running.returncode, out, errors


@pytest.fixture(scope="session")
def finished(smoke_file, tmp_path_factory):
    """Run the smoke suite as a command: (status, both outputs, results to be read).

    Processes of pytest-xdist share one run.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    told, out = shared / "told.json", shared / "results"
    with FileLock(shared / "told.lock"):
        if not told.exists():
            process = command("run", "--suite", smoke_file, "--jobs", 1, "--out", out)
            output, errors = process.communicate(timeout=240)
            told.write_text(json.dumps([process.returncode, output, errors]))
    return *json.loads(told.read_text()), out


@pytest.fixture
def copied(finished, tmp_path):
    """Copy the results of the smoke suite, for a command that writes reports anew."""
    return shutil.copytree(finished[-1], tmp_path / "copied")


@pytest.fixture
def no_report(monkeypatch):
    """Let `run` end without its report, which takes seconds to draw."""
    monkeypatch.setattr(commands, "_report", lambda *arguments: None)


@pytest.fixture
def one_thread():
    """What a worker has; this process gets its own settings back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def _save_image(path, color, size=(48, 40), noise=0):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), color, np.int64)
    pixels += np.random.default_rng(noise).integers(-20, 21, pixels.shape)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=95)


@pytest.fixture
def colors(tmp_path):
    """Red and blue pictures in lists; the first training image is in the database too."""
    folder, lines = tmp_path / "colors", {"train": [], "test": [], "database": []}
    for i in range(40):
        red = i % 2
        name = f"images/{i}.jpg"
        _save_image(folder / name, (230, 20, 20) if red else (20, 20, 230), noise=i)
        part = "test" if i % 10 > 7 else "train"
        lines[part].append(f"{name} {red} {1 - red}")
    lines["database"] = [*lines["train"][:1], *lines["train"][2:]]
    for part, rows in lines.items():
        (folder / f"{part}.txt").write_text("\n".join(rows))
    return folder
