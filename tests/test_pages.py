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


MESSAGES = [
    "a head of",
    "these embeddings carry no class scores",
    "these outputs were made after",
    "class ids must lie in [0, num_classes=",
    "are a column",
    "must hold 0 and 1 only",
    "bits must be strictly falling lengths",
    "this head has codes of",
    "the chain is in stage",
    "a head without num_classes has no codewords",
    "reentrant checkpointing cannot hand on what rows carry",
    "saved heads need safetensors",
    "was saved with",
    "is expecting",
]


@pytest.mark.parametrize("message", MESSAGES)
def test_the_faq_quotes_messages_of_the_package(message):
    sources = (DOCS.parent / "pml_nmlayer").rglob("*.py")
    assert any(message in path.read_text() for path in sources)
    assert message.split(" [")[0] in (DOCS / "faq.md").read_text()
