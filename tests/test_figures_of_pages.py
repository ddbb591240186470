"""The figures of the pages on evidence are those of stored results."""

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
WORKS = ("features", "losses", "fashion", "coarse", "ablation", "superclasses", "speed")
WORKS += ("features_h100", "unseen")
OTHER_NAMES = dict.fromkeys(("losses", "fashion", "coarse", "features_h100"), "features")
OTHER_NAMES["kernels_h100"] = "kernels"
pytestmark = pytest.mark.skipif(
    not (DOCS / "results").is_dir(), reason="results are no part of a source distribution"
)
FIGURE = re.compile(r"\d\.\d{3} ± \d\.\d{3}")


@pytest.mark.parametrize(
    ("page", "suites", "count"),
    [
        ("defaults", ("choosing", "lengths"), 44),
        ("evidence", WORKS, 677),
        ("does-it-work", WORKS, 9),
        ("results", (*WORKS, "quick", "images"), 15),
        ("multilabel", ("multi-label",), 42),
    ],
    ids=["defaults", "evidence", "claims", "leaderboard", "multilabel"],
)
def test_every_figure_is_stored(page, suites, count):
    tables = "".join(
        (DOCS / "results" / suite / "table.md").read_text() for suite in suites
    )
    figures = FIGURE.findall((DOCS / f"{page}.md").read_text())
    assert len(figures) == count
    assert set(figures) <= set(FIGURE.findall(tables))


def test_tables_are_those_of_the_summaries():
    for folder in (DOCS / "results").iterdir():
        suite = OTHER_NAMES.get(folder.name, folder.name)
        summary = json.loads((folder / "summary.json").read_text())
        assert f"--suite {suite}" in json.dumps(summary)
        assert f"--suite {suite}" in (folder / "table.md").read_text()
