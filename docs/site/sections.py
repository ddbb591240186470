"""Sections of docstrings that Google's style does not have, written as Markdown."""

import re
import textwrap
from typing import Any

import griffe

_SECTION = re.compile(
    r"^(Formula|Shapes|Returns|Raises|Warns|Source|Differs):[ ]+(\S.*(?:\n[ ]{4,}\S.*)*)",
    re.MULTILINE,
)


def as_markdown(text: str) -> str:
    """Write `Formula:` as a block of its own lines, and the others as paragraphs."""

    def written(match: re.Match[str]) -> str:
        name, body = match.groups()
        if name == "Formula":
            first, _, rest = body.partition("\n")
            block = first + ("\n" + textwrap.dedent(rest) if rest else "")
            return f"\n**Formula**\n\n```text\n{block}\n```\n"
        return f"\n**{name}:** " + " ".join(body.split()) + "\n"

    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
    return _SECTION.sub(written, text)


class Sections(griffe.Extension):
    """Rewrite each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Take one object; see griffe."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
