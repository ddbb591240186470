"""summary.json: what a suite found, in one file that later results are compared with.

Strict JSON; keys are strings, of lengths and seeds as well. The same results, from the same
versions, give the same file. Published ones have a smaller form (`packing`).

    format: 1
    digits: decimals that values are rounded to; null for what is not rounded
    suite, kind ("quality" or "kernels"), command
    origins: of the results, each once: {code, git, versions, cpu, device}
    datasets (quality): by data set
        recipe: what all methods share
        tuning: {trials, seeds, source}, or null for the defaults of all methods; edges by
            entry, where a chosen number lies at an end of what the search tried
        splits: by seed, protocols and checksums of the splits in use (one, if all is well)
        rows: by name of the row
            label, entry, method, encoding, family, settings
            values: by metric, length and seed; null for a value that is none
            missing: by length and seed, why there is no result
    kernels (kernels): by name
        spec: sizes; peer: what is used instead
        ratio: {low, median, high} of ours / peer, quartiles over the repeats; lower is
            faster; null without a result
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..methods import METHODS
from ..results import write_text
from .packing import PACKED, packed, reduced, unpacked
from .shape import MapOf, Maybe, check_shape

FORMAT = 1
SUMMARY = "summary.json"
Summary = dict[str, Any]
_ROW = {
    "label": str,
    "entry": str,
    "method": str,
    "encoding": str,
    "family": str,
    "settings": dict,
    "values": MapOf(MapOf(MapOf(Maybe(float)))),
    "missing": MapOf(MapOf(str)),
}
_DATASET = {
    "recipe": dict,
    "tuning": Maybe(dict),
    "splits": MapOf(list),
    "rows": MapOf(_ROW),
}
_KERNEL = {
    "spec": dict,
    "peer": Maybe(str),
    "ratio": Maybe({"low": float, "median": float, "high": float}),
}
_COMMON: dict[str, Any] = {
    "format": int,
    "suite": str,
    "kind": str,
    "command": str,
    "origins": list,
    "digits": Maybe(int),
}
_SHAPES = {
    "quality": {**_COMMON, "datasets": MapOf(_DATASET)},
    "kernels": {**_COMMON, "kernels": MapOf(_KERNEL)},
}


def save_summary(path: Path, summary: Summary) -> None:
    """Write a summary; no reader ever sees half of it."""
    write_text(path, json.dumps(summary, indent=1, allow_nan=False) + "\n")


def save_small_summary(path: Path, summary: Summary) -> None:
    """Write the form of a summary that is published."""
    small = packed(reduced(summary))
    write_text(path, json.dumps(small, separators=(",", ":"), allow_nan=False) + "\n")


def load_summary(path: Path) -> Summary:
    """Read a summary of either form.

    Raises:
        ValueError: there is none, or it is not understood in full.
    """
    try:
        content = json.loads(path.read_text(), parse_constant=_refuse)
    except OSError as error:
        raise ValueError(
            f"there is no summary {path} ({error.strerror}); `python -m benchmarks run` "
            "writes one beside table.md"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") not in (FORMAT, PACKED):
        raise ValueError(
            f'{path} is no summary of "format": {FORMAT} or {PACKED}; write it again'
        )
    if content["format"] == PACKED:
        content = _unpacked(content, path)
    content.setdefault("digits", None)  # older files
    kind = content.get("kind")
    if kind not in _SHAPES:
        raise ValueError(f"{path}: kind must be quality or kernels, got {kind!r}")
    if kind == "quality":
        _complete(content)
    check_shape(content, _SHAPES[kind], str(path))
    return content


def _complete(content: Any) -> None:
    """Add the families that older files lack, as far as the file has rows."""
    parts = content.get("datasets")
    for part in parts.values() if isinstance(parts, dict) else ():
        rows = part.get("rows") if isinstance(part, dict) else None
        for row in rows.values() if isinstance(rows, dict) else ():
            if isinstance(row, dict) and {"entry", "method"} <= row.keys():
                row.setdefault("family", _family(row["entry"], row["method"]))


def _family(entry: str, method: str) -> str:
    """Return what a suite takes for the family unless it says another one."""
    own = entry == method and method in METHODS
    return METHODS[method].family if own else "control"


def _unpacked(content: dict[str, Any], path: Path) -> Summary:
    try:
        return unpacked(content)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} is not understood in full: {error!r}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def narrow_summary(
    summary: Summary,
    datasets: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    bits: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
) -> Summary:
    """Restrict a summary as a command restricts its suite; None is all there is."""
    if summary["kind"] == "kernels":
        return {**summary, "kernels": _chosen(summary["kernels"], methods)}
    parts = _chosen(summary["datasets"], datasets)
    return {
        **summary,
        "datasets": {
            name: _narrowed(part, methods, bits, seeds) for name, part in parts.items()
        },
    }


def _narrowed(
    part: dict[str, Any],
    methods: Sequence[str] | None,
    bits: Sequence[int] | None,
    seeds: Sequence[int] | None,
) -> dict[str, Any]:
    rows = {
        name: {
            **row,
            "values": {m: _places(v, bits, seeds) for m, v in row["values"].items()},
            "missing": _places(row["missing"], bits, seeds),
        }
        for name, row in part["rows"].items()
        if methods is None or row["entry"] in methods
    }
    return {**part, "splits": _chosen(part["splits"], seeds), "rows": rows}


def _places(
    values: dict[str, Any], bits: Sequence[int] | None, seeds: Sequence[int] | None
) -> dict[str, Any]:
    return {length: _chosen(own, seeds) for length, own in _chosen(values, bits).items()}


def _chosen(values: dict[str, Any], wanted: Sequence[object] | None) -> dict[str, Any]:
    names = None if wanted is None else [str(each) for each in wanted]
    return {name: v for name, v in values.items() if names is None or name in names}
