"""The small form of summary.json that is published, and back.

What is alike is said once. Values are whole numbers: with 4 digits 0.1234 is 1234.

    format: 2
    suite, kind, command, origins: as in `summary`
    digits: decimals that values are rounded to
    methods (quality): by method, the usual value of each setting
    rows (quality): by name of the row, what it has on all data sets; settings that are not
        the usual ones; entry, if it is not the name; encoding, if it is not "code"
    datasets (quality): by data set
        recipe, tuning, splits: as in `summary`; reasons: for a missing result
        seeds, bits: the order of lists
        rows: in the order of all rows, what is its own here; null for one that it lacks
            values: by metric, a list for each length; null where there is no result
            missing: for each length a list of places in `reasons`, or one for all seeds;
                null where nothing is missing
    spec (kernels): sizes that all kernels have
    kernels (kernels): by name {spec: other sizes, peer, ratio: [low, median, high]}
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .metrics import METRICS

PACKED = 2  # the format
DIGITS = 4
STORED = "stored_bits"  # a metric
_IDENTITY = ("label", "entry", "method", "encoding", "family")
Summary = dict[str, Any]


def reduced(summary: Summary) -> Summary:
    """Keep what is published of a whole summary: deciding metrics, rounded.

    Another one that is compared with it must be reduced, too.
    """
    if summary["kind"] == "kernels":
        kernels = summary["kernels"].items()
        rounded = {name: {**k, "ratio": _rounded(k["ratio"])} for name, k in kernels}
        return {**summary, "digits": DIGITS, "kernels": rounded}
    datasets = {
        name: {**part, "rows": {n: _row_reduced(row) for n, row in part["rows"].items()}}
        for name, part in summary["datasets"].items()
    }
    return {**summary, "digits": DIGITS, "datasets": datasets}


def _row_reduced(row: dict[str, Any]) -> dict[str, Any]:
    kept = {
        metric: _rounded(cells)
        for metric, cells in row["values"].items()
        if METRICS[metric].published or (metric == STORED and _differs(cells))
    }
    return {**row, "values": kept}


def _differs(stored: dict[str, dict[str, float | None]]) -> bool:
    """Tell whether an item takes another number of bits than its length says."""
    return any(v != int(bits) for bits, cell in stored.items() for v in cell.values())


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return None if value is None else round(value, DIGITS)


def packed(summary: Summary) -> dict[str, Any]:
    """Write a reduced summary shorter; `unpacked` gives it back."""
    head = {key: summary[key] for key in ("suite", "kind", "command", "origins", "digits")}
    head = {"format": PACKED, **head}
    if summary["kind"] == "kernels":
        return head | _kernels_packed(summary["kernels"])
    parts = summary["datasets"]
    rows = [row for part in parts.values() for row in part["rows"].values()]
    names = dict.fromkeys(name for part in parts.values() for name in part["rows"])
    methods = {
        method: _usual([row["settings"] for row in rows if row["method"] == method])
        for method in dict.fromkeys(row["method"] for row in rows)
    }
    shared = {
        name: _shared([p["rows"][name] for p in parts.values() if name in p["rows"]])
        for name in names
    }
    about = {
        name: _without(own, {"entry": name, "encoding": "code"})
        | {"settings": _without(own["settings"], methods.get(own.get("method")))}
        for name, own in shared.items()
    }
    datasets = {name: _dataset_packed(part, shared) for name, part in parts.items()}
    return {**head, "methods": methods, "rows": about, "datasets": datasets}


def unpacked(content: dict[str, Any]) -> Summary:
    """Return the summary that `packed` was given, with the format of whole ones."""
    head = {key: content[key] for key in ("suite", "kind", "command", "origins", "digits")}
    head = {"format": 1, **head}
    if content["kind"] == "kernels":
        return {**head, "kernels": _kernels_unpacked(content)}
    datasets = {
        name: {
            **{key: part[key] for key in ("recipe", "tuning", "splits")},
            "rows": {
                row: _row_unpacked(
                    own,
                    {"entry": row, "encoding": "code", **shared},
                    content["methods"],
                    {**part, "digits": content["digits"]},
                )
                for (row, shared), own in zip(
                    content["rows"].items(), part["rows"], strict=True
                )
                if own is not None
            },
        }
        for name, part in content["datasets"].items()
    }
    return {**head, "datasets": datasets}


def _usual(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pick the value that most have, of each key that all have."""
    values = {key: [item[key] for item in items] for key in items[0]}
    return {key: max(found, key=found.count) for key, found in values.items()}


def _shared(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pick what a row has on all data sets; settings one by one."""
    identity = [{key: row[key] for key in _IDENTITY} for row in rows]
    return {**_common(identity), "settings": _common([row["settings"] for row in rows])}


def _common(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first, *others = items
    return {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }


def _without(item: dict[str, Any], known: Mapping[str, Any] | None) -> dict[str, Any]:
    return {k: v for k, v in item.items() if not (known and k in known and known[k] == v)}


def _dataset_packed(
    part: dict[str, Any], shared: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    order = _Order(part)
    rows: list[dict[str, Any] | None] = []
    for name, known in shared.items():
        row = part["rows"].get(name)
        if row is None:
            rows.append(None)
            continue
        own = _without({key: row[key] for key in _IDENTITY}, known)
        own["settings"] = _without(row["settings"], known["settings"])
        own["values"] = {m: order.values(cells) for m, cells in row["values"].items()}
        own["missing"] = order.missing(row["missing"]) if row["missing"] else {}
        rows.append({key: value for key, value in own.items() if value != {}})
    about = {key: part[key] for key in ("recipe", "tuning", "splits")}
    lists = {"seeds": order.seeds, "bits": order.bits, "reasons": list(order.reasons)}
    return {**about, **lists, "rows": rows}


class _Order:
    """In which order the lists of a data set are written."""

    def __init__(self, part: dict[str, Any]) -> None:
        rows = part["rows"].values()
        all_cells = [c for row in rows for c in (*row["values"].values(), row["missing"])]
        seeds = [seed for cells in all_cells for cell in cells.values() for seed in cell]
        self.seeds = list(dict.fromkeys([*part["splits"], *seeds]))
        self.bits = list(dict.fromkeys(bits for cells in all_cells for bits in cells))
        self.reasons: dict[str, int] = {}

    def values(self, cells: dict[str, dict[str, float | None]]) -> list[Any]:
        return [
            [_scaled(cells[bits].get(seed)) for seed in self.seeds]
            if bits in cells
            else None
            for bits in self.bits
        ]

    def missing(self, cells: dict[str, dict[str, str]]) -> list[Any]:
        return [self._places(cells[bits]) if bits in cells else None for bits in self.bits]

    def _places(self, cell: dict[str, str]) -> int | list[int | None]:
        for reason in cell.values():
            self.reasons.setdefault(reason, len(self.reasons))
        places = [self.reasons[cell[s]] if s in cell else None for s in self.seeds]
        first = places[0]
        return first if first is not None and set(places) == {first} else places


def _scaled(value: float | None) -> int | None:
    return None if value is None else round(value * 10**DIGITS)


def _row_unpacked(
    own: dict[str, Any],
    shared: dict[str, Any],
    methods: dict[str, dict[str, Any]],
    part: dict[str, Any],
) -> dict[str, Any]:
    row = {**shared, **own}
    missing = {}
    for bits, places in zip(part["bits"], own.get("missing", ()), strict=False):
        if places is not None:
            each = places if isinstance(places, list) else [places] * len(part["seeds"])
            by_seed = zip(part["seeds"], each, strict=True)
            missing[bits] = {s: part["reasons"][i] for s, i in by_seed if i is not None}
    values = {
        metric: {
            bits: {
                seed: value
                for seed, value in zip(part["seeds"], cell, strict=True)
                if seed not in missing.get(bits, {})
            }
            for bits, cell in zip(part["bits"], lengths, strict=True)
            if cell is not None
        }
        for metric, lengths in own.get("values", {}).items()
    }
    return {
        **{key: row[key] for key in _IDENTITY if key in row},  # older: no family
        "settings": {
            **methods[row["method"]],
            **shared["settings"],
            **own.get("settings", {}),
        },
        "values": _unscaled(values, part["digits"]),
        "missing": missing,
    }


def _unscaled(value: Any, digits: int) -> Any:
    if isinstance(value, dict):
        return {key: _unscaled(each, digits) for key, each in value.items()}
    return None if value is None else round(value / 10**digits, digits)


def _kernels_packed(kernels: dict[str, Any]) -> dict[str, Any]:
    spec = _common([kernel["spec"] for kernel in kernels.values()]) if kernels else {}
    short = {
        name: {
            "spec": _without(each["spec"], spec),
            "peer": each["peer"],
            "ratio": each["ratio"] and [*map(_scaled, each["ratio"].values())],
        }
        for name, each in kernels.items()
    }
    return {"spec": spec, "kernels": short}


def _kernels_unpacked(content: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {
            "spec": {**content["spec"], **each["spec"]},
            "peer": each["peer"],
            "ratio": each["ratio"] and _ratio(each["ratio"], content["digits"]),
        }
        for name, each in content["kernels"].items()
    }


def _ratio(numbers: Sequence[int], digits: int) -> dict[str, float]:
    return _unscaled(dict(zip(("low", "median", "high"), numbers, strict=True)), digits)
