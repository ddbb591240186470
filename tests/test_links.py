"""Local links of the README, of pages and of stored tables lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "docs" / "api").glob("*.md"),
    *RESULTS.rglob("*.md"),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page):
    """Return the text of a page without code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def links(page):
    found = LINK.findall(prose(page))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page):
    """Name the headings of a page as GitHub does."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_local_links_resolve(page):
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if RESULTS in target.parents and not RESULTS.is_dir():
            continue  # a source distribution has no results
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_rule_can_fail():
    readme = links(ROOT / "README.md")
    assert "docs/choosing.md" in readme
    assert "evidence.md#superclasses" in links(ROOT / "docs" / "tasks.md")
    assert "superclasses" in anchors(ROOT / "docs" / "evidence.md")
    assert "no-such-heading" not in anchors(ROOT / "docs" / "evidence.md")
