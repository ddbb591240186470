"""Python snippets of a page, run in order, with what they print."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
_BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """List snippets and what the page says that they print."""
    return _BLOCK.findall(page.read_text())


def run(page: Path) -> dict[str, Any]:
    """Run all snippets in one namespace; each prints what the page says."""
    names: dict[str, Any] = {"__name__": page.stem}
    for code, expected in blocks(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page.name, "exec"), names)
        assert printed.getvalue() == expected, code
    return names
