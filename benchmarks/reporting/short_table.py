"""The part of table.md that is published: what is read, and the command for the rest."""

import re
from collections.abc import Callable, Sequence

from .metrics import METRICS
from .tables import USAGE

CHART = "chart.png"
_LEFT_OUT = ("### Balance", "## Methods")  # of bits; explained by the whole report
_REFUSED = re.compile(r"- no: (.*) does not suit this data set \((.*)\)\.")
_PUBLISHED = {METRICS[name].label for name in METRICS if METRICS[name].published}
_NOT_SHOWN = tuple(f"- {METRICS[n].label}:" for n in METRICS if not METRICS[n].published)


def shortened(text: str, command: str) -> str:
    """Shorten a whole table.md.

    Kept are who wins, the main tables with their notes, codes along the way, metrics that
    the main tables have no room for, and tests: of all data sets, or of the only one.

    Args:
        text: the file.
        command: that makes the whole one.
    """
    parts = re.split(r"^(?=##+ )", text, flags=re.MULTILINE)
    several = sum(part.startswith("## Suite") for part in parts) > 1
    kept = [_part(part) for part in parts if part.strip() and _is_read(part, several)]
    about = (
        f"![the chart of this suite]({CHART})\n\n"
        "The short form of a report. This command makes the whole one, with details of "
        f"each row, bits, and the tests of each data set: `{command}`.\n"
    )
    whole = "\n".join(part for part in kept if part).rstrip() + "\n"
    if (place := whole.find("\n## Suite")) < 0:
        raise ValueError("the table has no `## Suite`; write the report again")
    return f"{whole[:place]}\n{about}{whole[place:]}"


def _is_read(part: str, several: bool) -> bool:
    if part.startswith("### Statistics"):
        return not several
    return not part.startswith(_LEFT_OUT)


def _part(part: str) -> str:
    lines = part.rstrip().split("\n")
    if part.startswith("### Details"):
        kept = {*_PUBLISHED, *USAGE.values()}
        lines = _columns(lines, lambda name: name in kept)
    elif part.startswith("### Codes along the way"):
        lines = _columns(lines, lambda name: name.startswith(("after_", "at_")))
    lines = [_narrow(line) if line.startswith("|") else line for line in lines]
    lines = [line for line in lines if not line.startswith(_NOT_SHOWN)]
    return "\n".join(_refusals_together(lines)) + "\n" if lines else ""


def _columns(lines: Sequence[str], wanted: Callable[[str], bool]) -> list[str]:
    """Keep method, bits and some columns of a section's table; nothing without these."""
    table = [_cells(line) for line in lines if line.startswith("|")]
    columns = [place for place, name in enumerate(table[0]) if wanted(name)]
    if not columns:
        return []
    kept = [[row[place] for place in (0, 1, *columns)] for row in table]
    return [lines[0], "", *(f"| {' | '.join(row)} |" for row in kept)]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _narrow(line: str) -> str:
    cells = [re.sub("^-+$", "---", cell) for cell in _cells(line)]
    return f"|{'|'.join(cells)}|"


def _refusals_together(lines: Sequence[str]) -> list[str]:
    """Say each reason once, with all rows that it is about."""
    about: dict[str, list[str]] = {}
    for line in lines:
        if found := _REFUSED.fullmatch(line):
            about.setdefault(found[2], []).append(found[1])
    told: list[str] = []
    for line in lines:
        found = _REFUSED.fullmatch(line)
        if found is None:
            told.append(line)
        elif found[2] in about:
            rows = about.pop(found[2])
            verb = "does" if len(rows) == 1 else "do"
            told.append(
                f"- no: {'; '.join(rows)} {verb} not suit this data set ({found[2]})."
            )
    return told
