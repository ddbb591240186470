"""Every method of a report in one line."""

from collections.abc import Sequence

from ..methods import METHODS
from ..suites import Entry, QualitySuite
from .tables import markdown


def glossary(suites: Sequence[QualitySuite]) -> str:
    """Explain the entries of a suite: what each does, and the options that are fixed."""
    entries = {entry.name: entry for suite in suites for entry in suite.entries}
    rows = [
        [entry.label, entry.family, METHODS[entry.method].about, _fixed(entry)]
        for entry in entries.values()
    ]
    table = markdown(["method", "family", "what it does", "fixed options"], rows)
    return f"## Methods in one line\n\n{table}\n"


def _fixed(entry: Entry) -> str:
    """Name what a suite says of an entry; of a variant also what it is a variant of."""
    options = ", ".join(f"{name}={value}" for name, value in entry.options.items())
    variant = [] if entry.name == entry.method else [f"of {entry.method}"]
    epochs = [] if entry.epochs is None else [f"{entry.epochs} epochs"]
    return "; ".join([*variant, *([options] if options else []), *epochs]) or "–"
