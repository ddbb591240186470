"""One page of all suites, from their summaries: sorted and filtered where it is read.

What the page needs is computed here, as plain JSON; `leaderboard.js` shows it. Numbers of
papers (`papers.yml`) stand below in a block of their own: they come from other features,
splits and budgets, and are never ranked with ours.
"""

import base64
import hashlib
import json
import shlex
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml

from ..interface import FAMILIES
from .contenders import Contender, contenders, decisive, lengths_of, ranked
from .metrics import METRICS
from .summary import SUMMARY, Summary, load_summary

_HERE = Path(__file__).parent
_DIGITS = 4
_NARROWED = ("--dataset", "--methods", "--bits")  # options that a cell has its own of
_FIRST = ("unseen", "both", "seen", "unlabelled", "multi-label")  # tasks, then the rest
_PAPER = ("method", "data", "protocol", "backbone", "metric", "source")


def find_summaries(folders: Iterable[Path]) -> list[Path]:
    """List the summaries in some folders, however deep.

    Raises:
        ValueError: there is none.
    """
    folders = list(folders)
    found = [path for folder in folders for path in sorted(folder.rglob(SUMMARY))]
    if not found:
        looked = ", ".join(map(str, folders))
        raise ValueError(
            f"there is no {SUMMARY} in {looked}; `python -m benchmarks run` writes one, or "
            "name the folder of some by --from"
        )
    return found


def content(paths: Sequence[Path]) -> dict[str, Any]:
    """Gather what the page shows: kernels have times, no codes, and are left out.

    Returns:
        metrics: those found: {label, unit, better}, by name.
        families: what each means, by name.
        groups: one a data set of a suite, see `_group`.
    """
    groups: list[dict[str, Any]] = []
    for path in paths:
        summary = load_summary(path)
        for dataset, part in summary.get("datasets", {}).items():
            groups.append(_group(summary, dataset, part, path, groups))
    groups.sort(key=lambda each: (*_FIRST, each["task"]).index(each["task"]))  # stable
    used = {metric for group in groups for row in group["rows"] for metric in row["values"]}
    metrics = {
        name: {key: getattr(METRICS[name], key) for key in ("label", "unit", "better")}
        for name in METRICS
        if name in used
    }
    return {"metrics": metrics, "families": FAMILIES, "groups": groups}


def _group(
    summary: Summary,
    dataset: str,
    part: dict[str, Any],
    path: Path,
    before: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Describe the results of a suite on a data set.

    Returns:
        task: the suite; with the folder of the summary if another one has the same.
        data, command, metric: the metric decides about ranks.
        rows: {label, entry, family, reference, edge, values, stored, ranks}: values by
            metric and length are [mean, sd or null, seeds]; ranks by length.
    """
    suite, metric = summary["suite"], decisive(part)
    taken = any((each["task"], each["data"]) == (suite, dataset) for each in before)
    found, edges = contenders(part), (part["tuning"] or {}).get("edges", {})
    order = {bits: ranked(found, metric, bits) for bits in lengths_of(_values(found))}
    return {
        "task": f"{suite} ({path.parent})" if taken else suite,
        "data": dataset,
        "command": command_of(summary["command"], dataset),
        "metric": metric,
        "rows": [_row(each, order, each.entry in edges) for each in found],
    }


def _values(found: Iterable[Contender]) -> list[Any]:
    return [each.values for each in found]


def _row(each: Contender, order: dict[int, list[Contender]], edge: bool) -> dict[str, Any]:
    values = {
        metric: {bits: _cell([*own.values()]) for bits, own in cells.items() if own}
        for metric, cells in each.values.items()
        if metric in METRICS
    }
    ranks = {bits: rows.index(each) + 1 for bits, rows in order.items() if each in rows}
    return {
        "label": each.label,
        "entry": each.entry,
        "family": each.family,
        "reference": each.reference,
        "edge": edge,
        "values": {metric: cells for metric, cells in values.items() if cells},
        "stored": each.stored,
        "ranks": ranks,
    }


def _cell(values: list[float]) -> list[float | int | None]:
    spread = round(stdev(values), _DIGITS) if len(values) > 1 else None
    return [round(fmean(values), _DIGITS), spread, len(values)]


def command_of(command: str, dataset: str) -> str:
    """Make of the command of a summary that of one data set; methods and bits to follow."""
    kept, skipping = [], False
    for word in shlex.split(command):
        if word.startswith("--"):
            skipping = word in _NARROWED
        if not skipping:
            kept.append(word)
    return shlex.join([*kept, "--dataset", dataset])


def papers() -> list[dict[str, Any]]:
    """Read the numbers of papers.

    Raises:
        ValueError: one lacks a field, its source for one.
    """
    found = yaml.safe_load((_HERE / "papers.yml").read_text())
    for each in found:
        if set(each) != {*_PAPER, "values"} or not all(each.values()):
            raise ValueError(f"papers.yml must say {_PAPER} and values of each, got {each}")
    return found


def html(paths: Sequence[Path]) -> str:
    """Write the page: no file and no network beside it, and no script but its own."""
    script = (_HERE / "leaderboard.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    found = content(paths)
    # "<" would let a label end the element
    data = json.dumps(found, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = {
        "POLICY": policy,
        "STYLE": (_HERE / "leaderboard.css").read_text(),
        "DATA": data,
        "SCRIPT": script,
        "PAPERS": _papers_table(),
        "SUITES": f"{len(found['groups'])} tables",
    }
    page = (_HERE / "leaderboard.html").read_text()
    for name, text in parts.items():
        page = page.replace(f"@{name}@", text)
    return page


def _papers_table() -> str:
    head = (
        "method",
        "bits: value",
        "data set",
        "protocol",
        "backbone",
        "metric",
        "read in",
    )
    rows = []
    for each in papers():
        values = ", ".join(f"{bits}: {value:.4g}" for bits, value in each["values"].items())
        words = (each["method"], values, *(each[key] for key in _PAPER[1:]))
        rows.append("".join(f"<td>{escape(str(word))}</td>" for word in words))
    titles = "".join(f"<th>{title}</th>" for title in head)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table>\n<thead><tr>{titles}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
