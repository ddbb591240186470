"""What mkdocs does beside Markdown: formulas as MathML, pages of the API, the gallery."""

import ast
import base64
import html
import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

DOCS = Path(__file__).parents[1]
_FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\s*\\[(\[](.*?)\\[)\]]\s*</\1>', re.DOTALL
)
_ROOM = re.compile(r"<!-- api: ([\w.]+) -->")
_GALLERY = "<!-- gallery -->"


def on_config(config: Any) -> Any:
    """Put the tables of all suites into the navigation."""
    tables = [
        {path.parent.name: f"results/{path.parent.name}/table.md"}
        for path in sorted((DOCS / "results").glob("*/table.md"))
    ]
    for section in config.nav:
        if tables and "Does it work" in section:
            section["Does it work"].append({"Tables": tables})
    return config


def on_page_content(content: str, **_: Any) -> str:
    """Turn each formula into MathML, which browsers draw without a script."""

    def mathml(match: re.Match[str]) -> str:
        display = "block" if match[1] == "div" else "inline"
        return convert(html.unescape(match[2]), display=display)

    return _FORMULA.sub(mathml, content)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the public names of a room, and what the examples and notebooks show."""
    markdown = _ROOM.sub(lambda match: _names(match[1]), markdown)
    return markdown.replace(_GALLERY, gallery()) if _GALLERY in markdown else markdown


def public_names(module: str) -> list[str]:
    """List functions and classes that a room exports."""
    room = importlib.import_module(module)
    return [
        name
        for name, thing in sorted(vars(room).items())
        if not name.startswith("_")
        and (inspect.isclass(thing) or inspect.isfunction(thing))
        and thing.__module__.startswith("pml_nmlayer")
    ]


def _names(module: str) -> str:
    return "\n\n".join(f"::: {module}.{name}" for name in public_names(module))


def gallery() -> str:
    """Show title, purpose and code of each example, and the pictures of each notebook."""
    parts = [_notebook(path) for path in sorted((DOCS / "notebooks").glob("*.ipynb"))]
    parts += [_example(path) for path in sorted((DOCS / "examples").glob("*.py"))]
    return "\n\n".join(parts)


def _example(path: Path) -> str:
    code = path.read_text()
    title, _, purpose = (ast.get_docstring(ast.parse(code)) or "").partition("\n")
    return (
        f"## {title.rstrip('.')}\n\n{purpose.strip()}\n\n"
        f"[{path.name}](examples/{path.name})\n\n"
        f'??? example "Code"\n\n    ```python\n'
        + "\n".join(f"    {line}".rstrip() for line in code.splitlines())
        + "\n    ```"
    )


def _notebook(path: Path) -> str:
    cells = json.loads(path.read_text())["cells"]
    title, _, purpose = "".join(cells[0]["source"]).partition("\n")
    shown = [f"## {title.lstrip('# ')}", purpose.strip()]
    shown.append(f"[The whole notebook](notebooks/{path.name})")
    for number, picture in enumerate(pictures(cells)):
        base64.b64decode(picture, validate=True)
        address = f"data:image/png;base64,{picture}"
        shown.append(
            f'<img src="{address}" alt="Picture {number + 1} of {path.stem}" width="480">'
        )
    return "\n\n".join(shown)


def pictures(cells: list[dict[str, Any]]) -> list[str]:
    """List the PNGs in the outputs of a notebook."""
    found = []
    for cell in cells:
        for output in cell.get("outputs", []):
            png = output.get("data", {}).get("image/png")
            if png:
                found.append("".join(png).replace("\n", ""))
    return found
