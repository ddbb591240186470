"""From stored results to a summary; see summary.py for what it holds."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..results import Record, Spec, Store
from ..specs import Selection, spec_of
from ..suites import KernelSuite, QualitySuite, Row
from .kernel_tables import quartiles
from .runs import Run
from .summary import FORMAT, Summary

_ORIGIN = ("code", "git", "versions", "cpu")  # and the device, which older records lack


def of_selection(
    selection: Selection,
    runs: Mapping[str, Sequence[Run]],
    store: Store,
    command: str,
) -> Summary:
    """Sum up what a command selected.

    Args:
        selection: a suite for each data set, with its specs; one suite of kernels.
        runs: what `runs.collect` gives, by data set.
        store: where the results lie.
        command: by which they can be had.
    """
    suite, specs = selection[0]
    if isinstance(suite, KernelSuite):
        return of_kernels(suite.name, specs, store, command)
    parts = [
        (suite, runs[suite.dataset])
        for suite, _ in selection
        if isinstance(suite, QualitySuite)
    ]
    return of_quality(parts, command)


def of_quality(
    parts: Sequence[tuple[QualitySuite, Sequence[Run]]], command: str
) -> Summary:
    """Sum up the data sets of a suite, each with its runs."""
    records = [run.record for _, runs in parts for run in runs if run.record is not None]
    datasets = {suite.dataset: _dataset(suite, runs) for suite, runs in parts}
    return _plain(
        {**_head(parts[0][0].name, "quality", command, records), "datasets": datasets}
    )


def of_kernels(suite: str, specs: Sequence[Spec], store: Store, command: str) -> Summary:
    """Sum up the kernels suite: ratios by name of the kernel."""
    records = [record for record in map(store.load, specs) if record is not None]
    kernels = {spec["kernel"]: _kernel(spec, store) for spec in specs}
    return _plain({**_head(suite, "kernels", command, records), "kernels": kernels})


def _plain(summary: Summary) -> Summary:
    """Make it what `load_summary` will read: JSON has no tuples, for one."""
    return json.loads(json.dumps(summary, allow_nan=False))


def _head(suite: str, kind: str, command: str, records: Sequence[Record]) -> Summary:
    found = {json.dumps(_origin(record), sort_keys=True) for record in records}
    return {
        "format": FORMAT,
        "suite": suite,
        "kind": kind,
        "command": command,
        "origins": [json.loads(text) for text in sorted(found)],
        "digits": None,
    }


def _origin(record: Record) -> dict[str, Any]:
    origin = {key: record[key] for key in _ORIGIN}
    return {**origin, "device": record.get("device", "cpu")}


def _dataset(suite: QualitySuite, runs: Sequence[Run]) -> dict[str, Any]:
    splits: dict[str, set[str]] = {}
    for run in runs:
        if run.record is not None and "split" in run.record:
            split = run.record["split"]
            text = f"{split.get('protocol', 'digits')} {split['checksum']}"
            splits.setdefault(str(run.seed), set()).add(text)
    tuning = None
    if suite.tuned is not None and suite.tuning is not None:
        trials, seeds = suite.tuning.trials, [*suite.tuning.seeds]
        tuning = {"trials": trials, "seeds": seeds, "source": suite.tuned.source}
        names = [entry.name for entry in suite.entries]
        edges = {n: ends for n, ends in suite.tuned.edges.items() if n in names}
        tuning |= {"edges": edges} if edges else {}
    return {
        "recipe": suite.recipe,
        "tuning": tuning,
        "splits": {seed: sorted(texts) for seed, texts in splits.items()},
        "rows": {
            row.name: _row(suite, row, [run for run in runs if run.row == row])
            for row in suite.rows
        },
    }


def _row(suite: QualitySuite, row: Row, runs: Sequence[Run]) -> dict[str, Any]:
    values: dict[str, dict[str, dict[str, float | None]]] = {}
    missing: dict[str, dict[str, str]] = {}
    for run in runs:
        bits, seed = str(run.bits), str(run.seed)
        if not run.metrics:
            missing.setdefault(bits, {})[seed] = _why(run)
        for name, value in run.metrics.items():
            cell = values.setdefault(name, {}).setdefault(bits, {})
            cell[seed] = value if math.isfinite(value) else None
    entry = row.entry
    return {
        "label": row.label,
        "entry": entry.name,
        "method": entry.method,
        "encoding": row.encoding,
        "family": entry.family,
        "settings": spec_of(suite, entry, suite.bits[0], suite.seeds[0])["settings"],
        "values": values,
        "missing": missing,
    }


def _why(run: Run) -> str:
    if run.refused is not None:
        return f"refused: {run.refused}"
    if run.failure is not None:
        return f"failed: {run.failure}"
    return "no result"


def _kernel(spec: Spec, store: Store) -> dict[str, Any]:
    sizes = {key: value for key, value in spec.items() if key not in ("suite", "kernel")}
    if not store.has_result(spec):
        return {"spec": sizes, "peer": None, "ratio": None}
    record, arrays = store.load(spec), store.load_arrays(spec)
    assert record is not None
    parts = map(float, quartiles(arrays))
    ratio = dict(zip(("low", "median", "high"), parts, strict=True))
    return {"spec": sizes, "peer": record["peer"], "ratio": ratio}
