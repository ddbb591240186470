"""`validate` shows what a suite's methods reach on validation queries."""

from statistics import fmean, stdev

from benchmarks import tuning, validation
from benchmarks.__main__ import main
from benchmarks.reporting.judging import judged
from benchmarks.results import Store
from benchmarks.running import runner
from benchmarks.suite_files import load_suites
from tests.benchmarks.conftest import in_this_process

SUITE = """
kind: quality
datasets: [digits]
bits: [6, 12]
seeds: [0]
epochs: 1
decay: 0.4
batch_size: 128
timeout_s: 60
methods: [itq, {name: few, method: itq, options: {iterations: 1}, label: few rounds}]
tuning: {trials: 3, seeds: [7, 8], bits: [12]}
"""


def test_a_line_a_method_and_no_search(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "run_jobs", in_this_process)
    path, out = tmp_path / "s.yml", tmp_path / "results"
    path.write_text(SUITE)
    assert main(["validate", "--suite", str(path), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "4 runs done, 0 skipped, 0 failed" in shown  # two methods, two search seeds
    assert "| method | mean | digits, mAP@all, 12 bits |" in shown
    (suite,) = load_suites(str(path), False)
    store = Store(out)
    for entry in suite.entries:
        specs = tuning.specs_of(suite, entry, {}, 12)
        assert {spec["purpose"] for spec in specs} == {"tune"}
        values = [100 * judged(store, spec)["code"]["map"] for spec in specs]
        mean = f"{fmean(values):.1f}"
        line = f"| {entry.label} | {mean} | {mean} ± {stdev(values):.1f} |"
        assert line in shown
    assert validation.table([suite], store) in shown


def test_kernels_have_no_queries(tmp_path, capsys):
    assert main(["validate", "--suite", "kernels", "--out", str(tmp_path)]) == 2
    assert "has no queries to validate on" in capsys.readouterr().err
