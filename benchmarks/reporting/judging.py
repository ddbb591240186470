"""Metrics of stored results, kept beside them until they or the rules change."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..pool import run_jobs
from ..results import LEFT_OUT, Spec, Store, write_text
from .judge import judge

Metrics = dict[str, dict[str, float]]  # by encoding, then by metric
_ROOT = Path(__file__).resolve().parents[2]
_ROOMS = ("codes", "hamming", "labels", "ranking")  # of the package: what `metrics` needs
_FILES = ("judge", "metrics", "score_histograms")  # of this folder
_TIMEOUT_S = 600


def judged(store: Store, spec: Spec) -> Metrics:
    """Return the metrics of one run; nothing for a run without a result."""
    return judged_all(store, [spec], processes=0)[0]


def judged_all(store: Store, specs: Sequence[Spec], processes: int) -> list[Metrics]:
    """Return the metrics of many runs, computing what is not known yet.

    Args:
        store: where raw results lie.
        specs: the runs.
        processes: worker processes; fewer than two compute in this one.
    """
    done = [store.has_result(spec) for spec in specs]
    found = [
        _known(store, spec) if has else {} for spec, has in zip(specs, done, strict=True)
    ]
    todo = [position for position, metrics in enumerate(found) if metrics is None]
    jobs = [(store, specs[position]) for position in todo]
    for place, metrics in _judge_each(jobs, processes):
        found[todo[place]] = metrics
        _keep(*jobs[place], metrics)  # at once: an interrupted report goes on from here
    return [metrics or {} for metrics in found]


def _judge_each(
    jobs: Sequence[tuple[Store, Spec]], processes: int
) -> Iterator[tuple[int, Metrics]]:
    """Yield the place of each job and its metrics, as they come."""
    if processes < 2 or len(jobs) < 2:  # a worker takes seconds to start
        yield from ((place, _judge(job)) for place, job in enumerate(jobs))
        return
    outcomes = run_jobs(_judge, jobs, processes, _TIMEOUT_S)
    for place, outcome in tqdm(outcomes, "judging", len(jobs), unit="run", delay=5):
        if outcome.error is not None:
            raise RuntimeError(f"cannot judge {jobs[place][1]}: {outcome.error}")
        assert outcome.value is not None
        yield place, outcome.value


def _judge(job: tuple[Store, Spec]) -> Metrics:
    store, spec = job
    if not store.has_codes(spec):
        raise ValueError(
            f"{store.path(spec)} came without its codes, and the rules of metrics have "
            "changed since; repeat the run with --force"
        )
    return judge(store.load_arrays(spec), spec["bits"])


def _known(store: Store, spec: Spec) -> Metrics | None:
    try:
        kept = json.loads(store.metrics_path(spec).read_text())
    except (OSError, ValueError):
        return None
    same = isinstance(kept, dict) and kept.get("of") == _origin(store, spec)
    return kept["values"] if same else None


def _keep(store: Store, spec: Spec, metrics: Metrics) -> None:
    content = {"of": _origin(store, spec), "values": metrics}
    write_text(store.metrics_path(spec), json.dumps(content))


def without_codes(store: Store, spec: Spec) -> str:
    """Write the metrics of a run as they are kept where its codes are not.

    Raises:
        ValueError: it is not judged yet.
    """
    values = _known(store, spec)
    if values is None:
        raise ValueError(f"{store.path(spec)} is not judged; write a report first")
    return json.dumps({"of": {"rules": _rules(), LEFT_OUT: True}, "values": values})


def _origin(store: Store, spec: Spec) -> dict[str, Any]:
    if not store.has_codes(spec):
        return {"rules": _rules(), LEFT_OUT: True}
    arrays = store.path(spec).with_suffix(".npz").stat()
    return {"bytes": arrays.st_size, "at": arrays.st_mtime_ns, "rules": _rules()}


@lru_cache(maxsize=1)
def _rules() -> str:
    """Hash the sources that decide about metrics."""
    digest = hashlib.sha256()
    rules = [Path(__file__).with_name(f"{name}.py") for name in _FILES]
    rooms = (_ROOT / "pml_nmlayer" / room for room in _ROOMS)
    for path in (*(p for room in rooms for p in sorted(room.rglob("*.py"))), *rules):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
