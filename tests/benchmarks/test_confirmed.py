"""Which findings on features images confirm: signs of gains, and the page that says it."""

from pathlib import Path

import pytest

from benchmarks.reporting import confirmed
from benchmarks.reporting.summary import load_summary

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def row(family, method, values, encoding="code", entry=None):
    cells = {"24": {str(seed): value for seed, value in enumerate(values)}}
    return {
        "family": family,
        "method": method,
        "encoding": encoding,
        "entry": entry or method,
        "values": {"map": cells},
    }


@pytest.mark.parametrize(
    ("features", "images", "expected"),
    [
        ([0.2, 0.21], [0.1, 0.11], "yes"),
        ([-0.2, -0.21], [-0.1, -0.11], "yes"),
        ([0.2, 0.21], [-0.1, -0.11], "no"),
        ([0.2, 0.21], [0.1, 0.3, -0.3], "open: within noise, the same sign"),
        ([0.2, 0.21], [-0.1, 0.05], "open: within noise, another sign"),
        ([0.2, -0.21], [0.1, 0.11], "open: features were within noise"),
        ([0.2, 0.21], [0.1, 0.13], "open: within noise, the same sign"),
        ([0.2, 0.21], [0.5], "open: one seed, the same sign"),
        ([0.2, 0.21], [], "not compared"),
    ],
    ids=str,
)
def test_a_verdict_compares_signs_beyond_noise(features, images, expected):
    assert confirmed.verdict(features, images) == expected


def test_gains_are_of_the_best_rows_of_losses_that_both_suites_have():
    part = {
        "rows": {
            "a": row("nm", "supcon_nm", [0.5, 0.7]),
            "b": row("nm", "supcon_nm", [0.6, 0.5]),
            "c": row("nm", "dsh_nm", [0.9, 0.9]),
            "d": row("direct", "supcon_tanh", [0.3, 0.4]),
            "e": row("class", "class_codes", [0.1, 0.2]),
            "f": row("class", "class_codes", [0.9, 0.9], "number"),
            "g": row("post", "signs_raw_database", [0.2, 0.2], "itq", "supcon_itq"),
            "h": row("post", "signs_raw_database", [0.9, 0.9], "itq", "dsh_itq"),
            "i": row("post", "supcon_post", [0.9, 0.9], "lsh"),
        }
    }
    gains = {
        rival: confirmed._gain(part, "nm", rival, {"supcon"}, 24)
        for rival in confirmed.RIVALS
    }
    assert gains["direct"] == pytest.approx([0.2, 0.3])
    assert gains["class"] == pytest.approx([0.4, 0.5])
    assert gains["post"] == pytest.approx([0.3, 0.5])
    assert confirmed._gain(part, "adapted", "post", {"supcon"}, 24) == []


@pytest.mark.skipif(not RESULTS.is_dir(), reason="results are no part of a distribution")
def test_the_published_page_follows_from_the_summaries():
    features = {
        name: load_summary(RESULTS / name / "summary.json")
        for name in ("features", "unseen")
    }
    if not (RESULTS / "images").is_dir():
        pytest.skip("suite images has no published results yet")
    images = load_summary(RESULTS / "images" / "summary.json")
    page = (RESULTS / "images" / "confirmed.md").read_text()
    assert page == confirmed.text(features, images, 24)
