"""The tables of docs/tasks.md on ingredients and merges follow from the stored summary."""

import re
from pathlib import Path
from statistics import fmean, stdev

import pytest

from benchmarks.reporting.summary import load_summary

ROOT = Path(__file__).parent.parent
STORED = ROOT / "docs" / "results" / "adaptation" / "summary.json"
pytestmark = pytest.mark.skipif(
    not STORED.exists(), reason="results are no part of a source distribution"
)
BITS = (12, 24, 48)
ROWS = {
    "nothing: `Hasher`": "hasher",
    "within-class whitening": "no_whitening",
    "the neighbours' teacher": "no_teacher",
    "clusters": "no_clusters",
    "the clusters' codebook, for a random one": "random_codebook",
    "training": "no_training",
    "the database": "labels_alone",
    "labels": "database_alone",
    "redundancy in the database": "merged",
    "redundancy in training items": "merged.graph_training",
    "groups at random": "merged.random_groups",
    "pruning": "merged.pruned",
    "a free rotation": "merged.free_rotation",
}


def means(name, bits):
    """mAP@all in points, a mean over the data sets for each seed."""
    parts = load_summary(STORED)["datasets"].values()
    values = [part["rows"][name]["values"]["map"][str(bits)] for part in parts]
    return [100 * fmean(each[seed] for each in values) for seed in values[0]]


def shown(values):
    return f"{fmean(values):.1f} ± {stdev(values):.1f}"


def against(values, others):
    return [a - b for a, b in zip(values, others, strict=True)]


def table(heading):
    text = (ROOT / "docs" / "tasks.md").read_text()
    found = re.search(rf"^\| {heading} .*\n\|---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    lines = [line.strip("| \n").split(" | ") for line in found[1].splitlines()]
    return {first: cells for first, *cells in lines}


def test_what_each_ingredient_is_worth():
    found = table("left out")
    assert list(found) == list(ROWS)[:8]
    for name, cells in found.items():
        for bits, cell in zip(BITS, cells, strict=True):
            values = means(ROWS[name], bits)
            if name != "nothing: `Hasher`":
                values = against(values, means("hasher", bits))
                assert cell == f"{fmean(values):+.1f} ± {stdev(values):.1f}", (name, bits)
            else:
                assert cell == shown(values)


def test_what_merges_are_worth():
    found = table("shortened by")
    assert list(found) == list(ROWS)[8:]
    for name, cells in found.items():
        end = ROWS[name]
        begun = f"{'merged.graph_database' if end == 'merged' else end}_begun"
        expected = [shown(means(row, bits)) for row in (begun, end) for bits in BITS]
        assert cells == expected, name
