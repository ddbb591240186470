"""The headline figures of README and pages follow from the stored summaries."""

import re
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest

from benchmarks.reporting.summary import load_summary

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
pytestmark = pytest.mark.skipif(
    not RESULTS.is_dir(), reason="results are no part of a source distribution"
)
TASKS = {
    "other classes (unseen)": "unseen",
    "trained and other classes in one database": "both",
    "similar items, no labels": "unlabelled",
    "classes of the training (seen)": "seen",
}
METRICS = {"mAP@all": "map", "Recall@1": "recall_at_1", "mAP@R": "map_at_r"}
OURS = ("adapted", "nm")
HAMMING = ("code", "semantic", "sign", "itq", "pca", "pca_rotated", "lsh")
LINE = re.compile(r"^\| (.+?) \| (mAP@all|Recall@1|mAP@R) \| (.+) \|$", re.MULTILINE)


def value(row, metric, bits):
    """The mean over seeds in points; None where there is none."""
    seeds = row["values"].get(metric, {}).get(str(bits), {})
    found = list(seeds.values())
    return None if not found or None in found else 100 * fmean(found)


def better(row, metric, bits, ways):
    names = [metric] if ways == 1 else [metric, f"asymmetric_{metric}"]
    found = [value(row, name, bits) for name in names]
    return max((each for each in found if each is not None), default=None)


@cache
def data_sets(suite):
    return [*load_summary(RESULTS / suite / "summary.json")["datasets"].values()]


def cell(suite, metric, bits, ways):
    """Hasher, the best rival at equal bits, and the best floats: means over data sets."""
    ours, rivals, floats = [], [], []
    for part in data_sets(suite):
        rows = part["rows"].values()
        ours.append(better(part["rows"]["hasher"], metric, bits, ways))
        known = [
            better(row, metric, bits, ways)
            for row in rows
            if row["family"] not in (*OURS, "floats")
            and row["encoding"] not in ("float", "rabitq")
            and (ways == 2 or row["encoding"] in HAMMING)
        ]
        rivals.append(max(each for each in known if each is not None))
        floats.append(
            max(value(row, metric, bits) for row in rows if row["family"] == "floats")
        )
    return fmean(ours), fmean(rivals), fmean(floats)


def lines_of(text):
    """Yield suite, metric and cells of each line about a task that is published."""
    task = None
    for name, metric, cells in LINE.findall(text):
        task = task if name == "the same" else TASKS[name]
        yield task, METRICS[metric], [each.strip() for each in cells.split("|")]


@pytest.mark.parametrize("page", ["README.md", "docs/tasks.md"])
def test_each_cell_follows_from_the_summaries(page):
    text = (ROOT / page).read_text()
    block = text[text.index("<!-- figures: python -m benchmarks") :]
    block = block[: block.index("<!-- /figures -->")]
    tables = re.split(r"^\| queries ask for.*\n", block, flags=re.MULTILINE)[1:]
    assert len(tables) == (1 if page == "README.md" else 2)
    seen = 0
    for ways, table in zip((2, 1), tables, strict=False):
        for suite, metric, cells in lines_of(table):
            for bits, shown in zip((12, 24, 48), cells, strict=False):
                own, rival, floats = cell(suite, metric, bits, ways)
                assert shown == f"{own:.1f} / {rival:.1f}", (suite, metric, bits, ways)
                seen += 1
            assert float(cells[3]) == pytest.approx(floats, abs=0.051)
    assert seen >= 12
