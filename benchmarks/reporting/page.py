"""One HTML page of a report: no script, no file and no network beside it.

Its words and tables are those of table.md, rendered; what it adds are the figures.
"""

import io
import re
from collections.abc import Sequence
from html import escape

import matplotlib
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from ..results import file_name
from .captions import Picture, Section

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; padding: 1rem; }
body, figure svg { margin: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; white-space: nowrap; }
th, td { padding: 0.2rem 0.7rem; text-align: left; border-bottom: 1px solid var(--line); }
tbody tr:hover { background: var(--soft); }
figure { margin: 2rem 0; }
figure .wide { background: white; border: 1px solid var(--line); }
figure svg { display: block; max-width: 100%; min-width: 34rem; height: auto; }
figure svg image { image-rendering: pixelated; }
figcaption, li { font-size: 0.9rem; }
code { background: var(--soft); overflow-wrap: anywhere; }
"""


def html(title: str, sections: Sequence[Section]) -> str:
    """Compose a page.

    Args:
        title: of the page.
        sections: of each data set its name, the text of its table.md, and its figures,
            which stand before the first heading of the third level.
    """
    several = len(sections) > 1
    links = [f'<a href="#{_slug(name)}">{escape(name)}</a>' for name, *_ in sections]
    contents = f"<nav>{' · '.join(links)}</nav>\n" if several else ""
    body = "\n".join(_section(*section) for section in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{contents}{body}
</body>
</html>
"""


def figure_id(section: str, picture: Picture) -> str:
    """Name a figure of a page."""
    return f"{_slug(section)}.{picture.name}"


def _section(name: str, text: str, pictures: Sequence[Picture]) -> str:
    head, *rest = re.split(r"^(?=### )", text, flags=re.MULTILINE)
    drawn = "\n".join(_figure(figure_id(name, each), each) for each in pictures)
    body = f"{_render(head)}\n{drawn}\n{_render(''.join(rest))}"
    return f'<section id="{_slug(name)}">\n{body}\n</section>'


def _figure(name: str, picture: Picture) -> str:
    caption = f"<strong>{escape(picture.title)}.</strong> {_inline(picture.caption)}"
    if picture.figure is None:
        return f'<p id="{name}">{caption}</p>'
    drawing = svg(picture.figure, name).replace(
        "<svg ", f'<svg role="img" aria-label="{escape(picture.title)}" ', 1
    )
    return (
        f'<figure id="{name}"><div class="wide">{drawing}</div>\n'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def svg(figure: Figure, name: str) -> str:
    """Return a figure as an `<svg>` element; ids are its own on a page of many."""
    text = io.StringIO()
    # Text stays text: fonts that stand in for the one of the layout are narrower.
    settings = {"svg.fonttype": "none", "svg.hashsalt": name}
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(settings):  # type: ignore[arg-type]
        figure.savefig(text, format="svg", metadata=nothing, transparent=False)
    whole = text.getvalue()
    element = re.sub(r"<!--.*?-->", "", whole[whole.index("<svg") :], flags=re.DOTALL)
    return re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}.", element)


def _parser() -> MarkdownIt:
    """Read the Markdown that reports write: no HTML passes, nothing is loaded."""
    options = {"html": False, "linkify": False}
    return MarkdownIt("commonmark", options).enable("table").disable(["image", "link"])


def _render(text: str) -> str:
    rendered = _parser().render(text)
    wrapped = rendered.replace("<table>", '<div class="wide"><table>')
    return wrapped.replace("</table>", "</table></div>")


def _inline(text: str) -> str:
    return _parser().renderInline(text)


def _slug(name: str) -> str:
    return file_name(name).replace(".", "_")
