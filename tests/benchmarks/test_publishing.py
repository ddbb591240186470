"""The small form of a report: a short table, one chart, a summary that `compare` takes."""

import copy
import json
import shutil

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.interface import FAMILIES
from benchmarks.reporting import chart, contenders, packing, publishing, short_table
from benchmarks.reporting.metrics import METRICS
from benchmarks.reporting.summary import load_summary, save_small_summary, save_summary
from tests.benchmarks.conftest import ROOT
from tests.benchmarks.test_summary import suite, summary, timed  # noqa: F401
from tests.benchmarks.test_verdict import contender_row

TABLE = """# Suite s: 1 method

## What was found

- Winner: a.

## Suite `s`: one

| method | mAP@all, 12 bits |
| ------ | ---------------- |
| a \\| b | 0.500 ± 0.010    |

- Tie-aware mAP@all: as ever.
- P@r≤2: inclusive.
- no: A does not suit this data set (several labels (here)).
- no: B does not suit this data set (several labels (here)).
- no: C does not suit this data set (another reason).
- Command: `c`.

### Details

| method | bits | P@r≤2 | mAP@all, superclasses | head, served |
| ------ | ---- | ----- | --------------------- | ------------ |
| a      | 12   | 0.1   | 0.200 ± 0.010         | 48           |

### Codes along the way: mAP@all

| method | bits | before_1 | after_1 | end |
| ------ | ---- | -------- | ------- | --- |
| a      | 12   | 0.3      | 0.4     | 0.5 |

### Balance and redundancy of bits

| method | bits | Gini, end |
| ------ | ---- | --------- |
| a      | 12   | 0.1       |

### Statistics

| mean rank | method |
| --------- | ------ |
| 1.00      | a      |

## Methods in one line

| method | what it does |
| ------ | ------------ |
| a      | nothing      |
"""


@pytest.fixture(scope="module")
def published(finished, smoke_file, tmp_path_factory):
    """Publish the smoke suite by the command: (its whole summary, the folder)."""
    folder = tmp_path_factory.mktemp("published")
    copied = shutil.copytree(finished[-1], folder / "copied")
    where = ["--suite", str(smoke_file), "--out", str(copied), "--jobs", "1"]
    assert main(["report", *where, "--publish", str(folder / "published")]) == 0
    return load_summary(copied / "smoke" / "summary.json"), folder / "published"


def test_equal_results_are_the_same_after_publishing(
    published, finished, smoke_file, tmp_path, capsys
):
    whole, folder = published
    capsys.readouterr()
    words = ["compare", "--suite", str(smoke_file), "--out", str(finished[-1])]
    assert main([*words, "--baseline", str(folder / "summary.json")]) == 0
    said = capsys.readouterr().out.strip()
    assert said.startswith("all well: ")
    assert said.endswith(" same")
    assert "," not in said
    for narrowed in (["--seeds", "1"], ["--methods", "itq"], ["--bits", "12"]):
        assert main([*words, *narrowed, "--baseline", str(folder / "summary.json")]) == 0

    worse = copy.deepcopy(whole)  # a baseline that was better
    for values in worse["datasets"]["digits"]["rows"]["itq"]["values"]["map"].values():
        for seed in values:
            values[seed] += 0.01
    save_small_summary(tmp_path / "summary.json", worse)
    capsys.readouterr()
    assert main([*words, "--baseline", str(tmp_path / "summary.json")]) == 1
    assert "REGRESSION: 1 worse, " in capsys.readouterr().out


def test_what_is_published(published):
    whole, folder = published
    assert sorted(path.name for path in folder.iterdir()) == [
        "chart.png",
        "summary.json",
        "table.md",
    ]
    small = load_summary(folder / "summary.json")
    assert small == packing.reduced(whole)
    rows = small["datasets"]["digits"]["rows"]
    found = whole["datasets"]["digits"]["rows"]["itq"]["values"]
    assert {"map", "p_at_radius_2"} <= set(found)
    assert set(rows["itq"]["values"]) == {n for n in found if METRICS[n].published}
    assert "p_at_radius_2" not in rows["itq"]["values"]
    assert rows["broken"]["missing"]["12"]["0"].startswith("failed: ValueError: Invalid")
    assert (folder / "chart.png").read_bytes().startswith(b"\x89PNG")
    text = (folder / "table.md").read_text()
    assert f"`{whole['command']}`" in text
    assert "head, served" not in text
    assert "(chart.png)" in text


def test_a_packed_summary_is_the_reduced_one(summary, timed):  # noqa: F811
    rows = summary["datasets"]["digits"]["rows"]
    rows["supcon"]["entry"] = "another"
    other = copy.deepcopy(summary["datasets"]["digits"])
    del other["rows"]["itq"]
    other["rows"]["supcon"]["settings"]["lr"] = 0.5
    other["rows"]["supcon"]["values"]["map"]["12"]["0"] = 0.123456
    summary["datasets"]["other"] = other
    for whole in (summary, timed):
        reduced = packing.reduced(whole)
        text = json.dumps(packing.packed(reduced), allow_nan=False)
        assert packing.unpacked(json.loads(text)) == reduced
    reduced = packing.reduced(summary)
    found = reduced["datasets"]["other"]["rows"]["supcon"]["values"]["map"]["12"]
    assert found == {"0": 0.1235, "1": 1.12}


def test_stored_bits_are_published_where_they_are_not_the_length(summary):  # noqa: F811
    rows = summary["datasets"]["digits"]["rows"]
    rows["itq"]["values"]["stored_bits"] = {"12": {"0": 12, "1": 12}}
    rows["supcon"]["values"]["stored_bits"] = {"12": {"0": 76, "1": 76}}
    reduced = packing.reduced(summary)
    assert packing.unpacked(packing.packed(reduced)) == reduced
    kept = [r["values"] for r in reduced["datasets"]["digits"]["rows"].values()]
    assert ["stored_bits" in values for values in kept] == [False, True, False]


def test_a_summary_of_an_older_version_is_read(summary, tmp_path):  # noqa: F811
    rows = summary["datasets"]["digits"]["rows"]
    rows["supcon"]["entry"], rows["supcon"]["family"] = "variant", "control"
    old = {key: copy.deepcopy(v) for key, v in summary.items() if key != "digits"}
    for row in old["datasets"]["digits"]["rows"].values():
        del row["family"]
    save_summary(tmp_path / "old.json", old)
    assert load_summary(tmp_path / "old.json") == summary


def test_a_short_table_keeps_what_is_read():
    text = short_table.shortened(TABLE, "the command")
    assert text.startswith("# Suite s: 1 method\n\n## What was found\n\n- Winner: a.\n\n![")
    assert "`the command`" in text
    for kept in (
        "|a \\| b|0.500 ± 0.010|",
        "- no: A; B do not suit this data set (several labels (here)).",
        "- no: C does not suit this data set (another reason).",
        "|method|bits|mAP@all, superclasses|\n|---|---|---|\n|a|12|0.200 ± 0.010|",
        "|method|bits|after_1|\n|---|---|---|\n|a|12|0.4|",
        "### Statistics\n\n|mean rank|method|",
    ):
        assert kept in text, kept
    for left_out in ("P@r≤2", "head, served", "before_1", "Gini", "nothing"):
        assert left_out not in text
    both = short_table.shortened(
        f"{TABLE}\n{TABLE}\n## All data sets\n\n| mean rank |\n| --- |\n| 1 |\n", "c"
    )
    assert "### Statistics" not in both
    assert "## All data sets\n\n|mean rank|" in both
    assert both.count("(chart.png)") == 1


def test_a_chart_of_lines_dots_or_ratios(summary, timed, tmp_path):  # noqa: F811
    lines = chart.draw(summary)
    drawn = lines.axes[0].get_lines()
    assert [line.get_label() for line in drawn] == [
        "_itq",
        "_supcon",
        "loss alone: sign(SupCon)",
        "quantizers: ITQ on raw features",
    ]
    np.testing.assert_allclose(drawn[3].get_xydata(), [[12, 0.62], [24, 0.24]])
    assert lines.axes[0].get_xlabel() == "bits an item takes"
    assert lines.get_suptitle().startswith("Suite s: 3 methods at 12 and 24 bits on digits")
    single = copy.deepcopy(summary)
    for row in single["datasets"]["digits"]["rows"].values():
        row["values"] = {m: {"12": v["12"]} for m, v in row["values"].items() if "12" in v}
    assert "two standard errors" in chart.draw(single).get_supxlabel()
    ratios = chart.draw(timed)
    assert [t.get_text() for t in ratios.axes[0].get_yticklabels()] == ["map/argsort"]
    for place, figure in enumerate((lines, ratios)):
        chart.save(figure, tmp_path / f"{place}.png")
        assert (tmp_path / f"{place}.png").stat().st_size < 20_000


def test_a_line_joins_the_best_of_a_family_at_the_bits_it_takes():
    part = {
        "rows": {
            "low": contender_row("nm", {12: 0.3, 24: 0.4}),
            "high": contender_row("nm", {12: 0.2, 24: 0.5}),
            "wide": contender_row("quantizer", {12: 0.1}, stored={12: 44}),
            "cosine": contender_row("direct", {12: 0.9}, encoding="float"),
            "raw": contender_row("floats", {12: 0.7}, encoding="float"),
        }
    }
    found = chart.best_of_families(contenders.contenders(part), "map")
    assert {
        family: [(x, y, each.row) for x, y, each in points]
        for family, points in found.items()
    } == {
        "nm": [(12, 0.3, "low"), (24, 0.5, "high")],
        "quantizer": [(44, 0.1, "wide")],
        "floats": [(12, 0.7, "raw")],
    }


def test_at_most_ten_families_are_strong():
    families = list(chart.NAMES)
    panels = [{name: [(12, i / 20, None)] for i, name in enumerate(families)}]
    assert len(families) > chart.STRONG
    assert chart.strong(panels) == families[::-1][: chart.STRONG]
    assert set(chart.NAMES) == set(chart.COLORS) >= set(FAMILIES)


def test_stored_results_are_small_and_complete():
    results = ROOT / "docs" / "results"
    if not results.is_dir():
        pytest.skip("results are no part of a source distribution")
    files = [*results.rglob("*"), *(ROOT / "benchmarks" / "configs").rglob("*")]
    assert sum(path.stat().st_size for path in files if path.is_file()) < 2_000_000
    for folder in results.iterdir():
        more = {"gallery.png", "confirmed.md"} if folder.name == "images" else set()
        assert {p.name for p in folder.iterdir()} == {
            short_table.CHART,
            publishing.SUMMARY,
            publishing.TABLE,
            *more,
        }
        assert load_summary(folder / publishing.SUMMARY)["digits"] == packing.DIGITS
