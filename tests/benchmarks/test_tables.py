import math

from benchmarks.reporting.runs import Run, metric_value
from benchmarks.reporting.tables import cell, markdown
from benchmarks.suites import Entry, Row

ROW = Row(Entry("a", "itq", "A", {}, ("code",)), "code")


def run(seed, value=None, error=None):
    record = {"error": error} if error else None
    if value is not None:
        record = {"train_s": 1.0}
    return Run(ROW, 12, seed, record, {} if value is None else {"map": value})


def test_mean_and_sample_deviation():
    values = [0.5, 0.6, 0.9]
    sd = math.sqrt(sum((v - 2 / 3) ** 2 for v in values) / 2)
    text = cell([run(i, v) for i, v in enumerate(values)], metric_value("map"))
    assert text == f"0.667 ± {sd:.3f}"


def test_what_is_missing_is_said():
    value = metric_value("map")
    assert cell([run(0, 0.5)], value) == "0.500"
    assert cell([run(0, 0.5), run(1)], value) == "0.500 (1 of 2 runs)"
    assert cell([run(0, 0.5), run(1, error="x")], value) == "0.500 (1 of 2 failed)"
    assert cell([run(0, error="x"), run(1, error="x")], value) == "failed"
    assert cell([run(0)], value) == "–"


def test_markdown_lines_up():
    lines = markdown(["a", "long"], [["wide cell", "b"]]).splitlines()
    assert lines == ["| a         | long |", "| --------- | ---- |", "| wide cell | b    |"]


def test_a_method_that_does_not_suit_is_a_no():
    refused = Run(ROW, 12, 0, {"refused": "needs one class"}, {})
    assert cell([refused], metric_value("map")) == "no"
    assert cell([refused, Run(ROW, 12, 1, None, {})], metric_value("map")) == "no"
