"""Pages and docstrings are read in a hurry: short sentences, narrow tables."""

import importlib
import inspect
import pkgutil

import pytest

import pml_nmlayer
from tests.pages import DOCS
from tests.prose import of_docstring, of_markdown

ROOT = DOCS.parent
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *DOCS.glob("api/*.md")]
PUBLIC = {
    f"{thing.__module__}.{thing.__qualname__}": thing
    for info in pkgutil.walk_packages(pml_nmlayer.__path__, "pml_nmlayer.")
    for name, thing in vars(importlib.import_module(info.name)).items()
    if not name.startswith("_")
    and (inspect.isclass(thing) or inspect.isfunction(thing))
    and thing.__module__.startswith("pml_nmlayer")
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_are_short_of_breath(page):
    assert of_markdown(page.read_text()).faults() == []


def test_docstrings_of_public_names():
    faults = {
        name: [fault for fault in of_docstring(inspect.getdoc(thing) or "").faults()]
        for name, thing in PUBLIC.items()
    }
    long = {n: [f for f in each if " words: " in f] for n, each in faults.items()}
    assert {name: each for name, each in long.items() if each} == {}


def test_docstrings_on_average():
    each = [of_docstring(inspect.getdoc(thing) or "") for thing in PUBLIC.values()]
    words = [count for prose in each for count, _ in prose.sentences]
    assert len(words) > 500
    assert sum(words) / len(words) <= 15


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("word " * 31 + "end.", "32 words"),
        ("One two three four. " + "word " * 28 + "end.", "on average"),
        ("|a|b|c|d|e|f|g|h|\n|-|-|-|-|-|-|-|-|\n", "8 columns"),
        ("- " + "word " * 31, "31 words"),
    ],
    ids=["long", "mean", "wide", "list"],
)
def test_the_rule_can_fail(text, fault):
    assert fault in " ".join(of_markdown(text).faults())


def test_code_headings_and_links_do_not_count():
    text = (
        "# "
        + "word " * 40
        + "\n\n```\n"
        + "word " * 40
        + "\n```\n\nSee [a page](a.md) now.\n"
    )
    assert of_markdown(text).faults() == []
    assert of_markdown(text).sentences == [(4, "See a page now.")]


def test_arguments_of_docstrings_are_sentences_of_their_own():
    text = "Do it.\n\nArgs:\n    a: " + "word " * 20 + "\n    b: " + "word " * 20
    assert [count for count, _ in of_docstring(text).sentences] == [20, 20]
