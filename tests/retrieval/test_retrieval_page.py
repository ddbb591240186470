"""The snippets of docs/retrieval.md run, and print what the page says they print."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from .postgres import server_folder
from .test_hash_index_kinds import EXPECTED

PAGE = (Path(__file__).parents[2] / "docs" / "retrieval.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", PAGE, re.DOTALL)


@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR")  # the embedded server asks for it
def test_snippets(monkeypatch):
    assert len(BLOCKS) == 6
    names = {}
    with server_folder() as folder, monkeypatch.context() as patch:
        patch.chdir(folder)
        try:
            for code, expected in BLOCKS:
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile(code, "retrieval.md", "exec"), names)
                assert printed.getvalue() == expected
        finally:
            if "server" in names:
                names["server"].cleanup()  # a second time does nothing


def test_the_table_quotes_what_is_tested():
    for kind, options, _, expected in EXPECTED:
        (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{kind}`"))
        assert str(expected) in row.split("|")[4]
        for name, value in options.items():
            assert f"{name}={value}" in row
