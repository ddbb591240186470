"""How long sentences are, and how wide tables: of Markdown and of docstrings."""

import re
from dataclasses import dataclass

from markdown_it import MarkdownIt

MEAN_WORDS = 15
MOST_WORDS = 30
MOST_COLUMNS = 7
_WORD = re.compile(r"[^\W\d_][\w'’-]*|\d[\d.,%]*")
_END = re.compile(r"(?<=[.!?])[)\"”]?\s+(?=[\"“(]?[A-Z0-9`])")
# Sections of docstrings that hold formulas, shapes or code, and no sentences
_NO_PROSE = re.compile(
    r"^(?:Formula|Shapes|Example|Examples):(?:.*\n?)(?:[ \t]+.*\n?|\n)*", re.MULTILINE
)
_ENTRY = re.compile(
    r"^\s*(?:\*{0,2}\w+|[A-Z]\w*(?:Error|Warning)[\w, ]*):\s*", re.MULTILINE
)


@dataclass
class Prose:
    """Sentences with their number of words, and columns of each table."""

    sentences: list[tuple[int, str]]
    columns: list[int]

    @property
    def mean(self) -> float:
        """Words a sentence; 0 without sentences."""
        return sum(count for count, _ in self.sentences) / max(len(self.sentences), 1)

    def faults(self) -> list[str]:
        """Say what is too long or too wide."""
        found = [f"{n} words: {text}" for n, text in self.sentences if n > MOST_WORDS]
        found += [f"a table of {n} columns" for n in self.columns if n > MOST_COLUMNS]
        if self.mean > MEAN_WORDS:
            found.append(f"{self.mean:.1f} words a sentence on average")
        return found


def of_markdown(text: str) -> Prose:
    """Measure paragraphs and list items; code, headings and tables have no sentences."""
    sentences: list[tuple[int, str]] = []
    columns = []
    within = ""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type in ("heading_open", "table_open"):
            within = token.type.removesuffix("_open")
        elif token.type in ("heading_close", "table_close"):
            within = ""
        elif token.type == "thead_open":
            columns.append(0)
        elif token.type == "th_open":
            columns[-1] += 1
        elif token.type == "inline" and not within:
            parts = [
                "code" if child.type == "code_inline" else child.content or " "
                for child in token.children or ()
                if child.type not in ("html_inline", "image")
            ]
            sentences += _sentences("".join(parts))
    return Prose(sentences, columns)


def of_docstring(text: str) -> Prose:
    """Measure the paragraphs of a docstring in Google's style."""
    plain = _NO_PROSE.sub("\n", text)
    plain = re.sub(r"^\w+:$", "\n", plain, flags=re.MULTILINE)
    blocks = re.split(r"\n\s*\n", _ENTRY.sub("\n\n", plain))
    return Prose([each for block in blocks for each in _sentences(block)], [])


def _sentences(text: str) -> list[tuple[int, str]]:
    text = re.sub(r"`[^`]*`", "code", " ".join(text.split()))
    found = [(len(_WORD.findall(each)), each) for each in _END.split(text)]
    return [each for each in found if each[0] > 3]  # labels and names are no sentences
