"""A method from outside this repository: of an installed package, or of a file."""

import os

import pytest

from benchmarks import plugins
from benchmarks.__main__ import main
from benchmarks.methods import METHODS
from benchmarks.reporting.judging import judged
from benchmarks.results import Store
from benchmarks.running import runner
from benchmarks.running.quality import execute
from tests.benchmarks.conftest import command, in_this_process
from tests.benchmarks.test_cli import records

METHOD = '''
"""Signs of random directions: a method that needs nothing of this repository."""

import torch

from benchmarks.interface import method
from benchmarks.search import Choice


@method("my_signs", "Signs of mine", shift=Choice(0.0, 1.0))
def my_signs(problem, shift=0.0):
    return Signs(problem, shift)


class Signs:
    on_features = True

    def __init__(self, problem, shift):
        self.directions = torch.randn(problem.in_features, problem.bits)
        self.shift = shift

    def fit(self, features, labels):
        self.mean = features.mean(0) + self.shift

    def encode(self, features):
        return {"code": ((features - self.mean) @ self.directions).sign() + 0.0}

    def head_parameters(self):
        return self.directions.numel(), self.directions.numel()
'''
SUITE = """
kind: quality
dataset: digits
bits: [8]
seeds: [0]
epochs: 1
decay: 0.4
batch_size: 128
timeout_s: 60
methods: [{name: my_signs, options: {shift: 0.5}}, itq]
tuning: {trials: 2, seeds: [7]}
"""


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "s.yml").write_text(SUITE)
    return ["--suite", tmp_path / "s.yml", "--out", tmp_path / "out", "--jobs", "1"]


@pytest.fixture
def forgotten(monkeypatch):
    """Let a test load files into this process, and nothing remain."""
    monkeypatch.setattr(METHODS, "_items", dict(METHODS._items))
    monkeypatch.setattr(plugins, "_loaded", {})


@pytest.fixture
def done(forgotten, one_thread, monkeypatch, capsys):
    """Call the command line, which starts no worker: (status, output)."""
    monkeypatch.setattr(runner, "run_jobs", in_this_process)

    def call(*words):
        return main([str(word) for word in words]), capsys.readouterr().out

    return call


def mine(out):
    return [r for r in records(out) if r["spec"]["method"] == "my_signs"]


def test_a_method_of_a_file_is_tuned_run_and_reported(suite, tmp_path, done):
    file = tmp_path / "mine.py"
    file.write_text(METHOD)
    more = ["--methods-from", file]
    assert "my_signs" in done("list", *more)[1]

    status, output = done("run", *suite, *more)
    assert status == 0
    assert "2 runs done, 0 skipped, 0 failed" in output
    assert "| Signs of mine" in output
    (record,) = mine(tmp_path / "out")
    assert record["spec"]["settings"] == {"shift": 0.5}
    assert len(record["spec"]["source"]) == 12
    assert (
        judged(Store(tmp_path / "out"), record["spec"])["code"]["map"] > 0.12
    )  # by chance 0.1
    (other,) = [r for r in records(tmp_path / "out") if r["spec"]["method"] == "itq"]
    assert "source" not in other["spec"]
    text = (tmp_path / "out" / "s" / "table.md").read_text()
    assert f"--methods-from {file}" in text

    status, output = done("report", *suite, *more)
    assert (status, "| Signs of mine" in output) == (0, True)
    assert done("tune", *suite, *more, "--methods", "my_signs")[0] == 0
    assert "my_signs" in (tmp_path / "s_tuned.yml").read_text()


@pytest.mark.usefixtures("no_report")
def test_results_of_another_version_of_the_file_are_not_taken(
    suite, tmp_path, done, monkeypatch
):
    file = tmp_path / "mine.py"
    words = ["run", *suite, "--methods-from", file, "--methods", "my_signs"]
    known = dict(METHODS._items)
    for content in (METHOD, METHOD + "# another version\n"):
        file.write_text(content)
        monkeypatch.setattr(METHODS, "_items", dict(known))  # a process that starts anew
        monkeypatch.setattr(plugins, "_loaded", {})
        status, output = done(*words)
        assert status == 0
        assert "1 runs done, 0 skipped" in output
    first, second = (record["spec"] for record in mine(tmp_path / "out"))
    assert first["source"] != second["source"]
    assert "0 runs done, 1 skipped" in done(*words)[1]


def test_workers_load_methods_of_an_installed_package_and_of_a_file(suite, tmp_path):
    site, file = tmp_path / "site", tmp_path / "mine.py"
    info = site / "my_package-1.0.dist-info"
    info.mkdir(parents=True)
    theirs = METHOD.replace('"my_signs"', '"their_signs"')
    (site / "their_module.py").write_text(theirs)
    file.write_text(METHOD)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nany = their_module\n")
    (tmp_path / "s.yml").write_text(SUITE.replace("itq", "their_signs"))
    paths = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    words = ["run", *suite, "--methods-from", file]
    process = command(*words, env={**os.environ, "PYTHONPATH": paths})
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "2 runs done, 0 skipped, 0 failed" in output
    found = {r["spec"]["method"]: r["spec"]["source"] for r in records(tmp_path / "out")}
    assert {name: len(source) for name, source in found.items()} == {
        "my_signs": 12,
        "their_signs": 12,
    }
    assert found["my_signs"] != found["their_signs"]


def test_without_the_file_the_method_is_unknown(suite, capsys):
    assert main(["run", *map(str, suite)]) == 2
    assert "unknown method 'my_signs'; known: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        ("x = 1", "registers no method; decorate one with @method"),
        ("import nothing_of_this_name", "cannot be loaded: No module named 'nothing_"),
        (METHOD.replace('"my_signs"', '"itq"'), "there is already a method called 'itq'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, content, message, capsys):
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
    assert main(["list", "--methods-from", str(file)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(file) in error


def test_a_file_is_loaded_once_and_must_not_change(tmp_path, forgotten):
    file = tmp_path / "mine.py"
    file.write_text(METHOD)
    for _ in range(2):
        plugins.load([file])
    source = METHODS["my_signs"].source
    assert METHODS["my_signs"].family == "other"
    file.write_text(METHOD + "\n")
    with pytest.raises(ValueError, match="has changed since it was loaded"):
        plugins.load([file])
    with pytest.raises(ValueError, match=f"the one that is loaded is of {source}"):
        execute({"method": "my_signs", "source": "another"})
