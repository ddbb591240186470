"""The README's example runs, its diff is that of a script that runs, and it is short."""

import difflib
import re

from tests.pages import DOCS, blocks, run

README = DOCS.parent / "README.md"


def squeezed(text):
    return re.sub(r"\s+", "", text)


def diff_of(page):
    return re.search(r"```diff\n(.*?)```", page.read_text(), re.DOTALL).group(1)


def test_examples(tmp_path, monkeypatch):
    assert len(blocks(README)) == 1
    monkeypatch.chdir(tmp_path)
    run(README)


def test_the_diff_is_part_of_the_script():
    script = squeezed(blocks(DOCS / "pml-script.md")[0][0]).replace(
        "merging.end_of_epoch_hook",
        "ProgressiveMerging(embedder,epochs_per_stage=4).end_of_epoch_hook",
    )
    added = [line[1:] for line in diff_of(README).splitlines() if line.startswith("+")]
    assert len(added) == 3
    for line in added:
        assert squeezed(line) in script
    assert (
        diff_of(DOCS / "pml-script.md").splitlines()[:8] == diff_of(README).splitlines()[:8]
    )


def test_the_two_scripts_differ_as_the_diff_says():
    texts = [
        (DOCS / "examples" / f"pml_{name}.py").read_text().split('"""', 2)[2]
        for name in ("before", "after")
    ]
    lines = list(difflib.unified_diff(*(text.splitlines() for text in texts), n=0))[2:]
    removed = {squeezed(line[1:]) for line in lines if line.startswith("-")}
    wanted = {
        squeezed(line[1:]) for line in diff_of(README).splitlines() if line.startswith("-")
    }
    assert wanted <= removed
    added = [line for line in lines if line.startswith("+") and line.strip("+ ")]
    # Six of an import, three of the training, three of the calculator that judges codes
    assert len(added) == 6 + 3 + 3


def test_it_can_be_read_in_a_minute():
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert max(table.count("\n") - 2 for table in tables) <= 8
