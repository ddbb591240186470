"""From specs to raw results: skip what is done, run the rest, leave a record of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import faiss
import torch
from tqdm import tqdm

from . import kernels, quality
from .environment import environment
from .pool import Outcome, run_jobs
from .results import Arrays, Record, Spec, Store

EXECUTORS: dict[str, Callable[[Spec], tuple[Record, Arrays]]] = {
    "quality": quality.execute,
    "kernel": kernels.execute,
}


@dataclass
class Summary:
    """What a call of `run` did."""

    done: int = 0
    skipped: int = 0
    stale: int = 0  # skipped, and the result was made by other code
    failed: int = 0


def execute(spec: Spec) -> tuple[Record, Arrays]:
    """Run one spec in a worker process."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    record, arrays = EXECUTORS[spec["kind"]](spec)
    threads = {"torch": torch.get_num_threads(), "faiss": faiss.omp_get_max_threads()}
    return {**record, "threads": threads}, arrays


def run(
    specs: Sequence[Spec],
    store: Store,
    processes: int,
    timeout_s: float,
    force: bool = False,
) -> Summary:
    """Run specs that have no result yet. A failure is recorded, and tried again next time.

    Args:
        specs: what to run; of equal specs one is run.
        store: where results lie.
        processes: worker processes, one thread each.
        timeout_s: for one spec.
        force: run even what has a result.
    """
    code = environment()["code"]  # read now: sources may change while this runs
    summary = Summary()
    todo: list[Spec] = []
    for spec in specs:
        if spec in todo:
            continue
        if force or not store.has_result(spec):
            todo.append(spec)
        else:
            summary.skipped += 1
            summary.stale += _code_of(store.load(spec)) != code
    jobs = run_jobs(execute, todo, processes, timeout_s)
    for index, outcome in tqdm(jobs, total=len(todo), unit="run", disable=not todo):
        _save(store, todo[index], outcome)
        summary.failed += outcome.error is not None
        summary.done += outcome.error is None
    return summary


def _save(store: Store, spec: Spec, outcome: Outcome) -> None:
    about = {**environment(), "wall_s": outcome.wall_s}
    if outcome.error is not None:
        store.save(spec, {"error": outcome.error, **about}, {})
    else:
        record, arrays = outcome.value
        store.save(spec, {**record, **about}, arrays)


def _code_of(record: Record | None) -> str | None:
    return None if record is None else record["code"]
