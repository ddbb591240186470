"""Snippets of the site's pages run, and print what the pages say."""

import pytest

from tests.pages import DOCS, blocks, run

# Pages whose snippets have tests of their own
ELSEWHERE = {"encoding", "export", "retrieval", "trainers"}
PAGES = [
    page
    for page in sorted(DOCS.glob("*.md"))
    if page.stem not in ELSEWHERE and blocks(page)
]


@pytest.mark.filterwarnings("ignore:.*is missing")  # PML's advice to have a miner
@pytest.mark.filterwarnings("ignore::DeprecationWarning:lancedb.*")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_snippets_run(page, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    run(page)


def test_pages_are_found():
    names = {page.stem for page in PAGES}
    assert {"index", "embeddings", "pml-script", "images", "choosing", "stores"} <= names
