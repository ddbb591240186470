"""From specs to raw results: skip what is done, run the rest, leave a record of each."""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import faiss
import torch
from tqdm import tqdm

from .. import plugins
from ..pool import Outcome, run_jobs
from ..results import Arrays, Record, Spec, Store
from . import kernels, quality
from .devices import Machine, same_device
from .environment import environment

EXECUTORS: dict[
    str, Callable[[Spec, Path | None, Machine, Store | None], tuple[Record, Arrays]]
] = {
    "quality": quality.execute,
    "embedding": lambda spec, root, machine, _: quality.execute_embedding(
        spec, root, machine
    ),
    "kernel": lambda spec, root, machine, _: kernels.execute(spec, machine),
}
_THIS = Machine()


@dataclass
class Summary:
    """What a call of `run` did."""

    done: int = 0
    skipped: int = 0
    stale: int = 0  # skipped, and the result was made by other code
    elsewhere: int = 0  # skipped, and the result was made on another device
    failed: int = 0
    refused: int = 0  # done or skipped: the method does not suit the data set

    def __add__(self, other: "Summary") -> "Summary":
        counts = zip(astuple(self), astuple(other), strict=True)
        return Summary(*(mine + theirs for mine, theirs in counts))


def execute(
    spec: Spec,
    root: Path | None = None,
    machine: Machine = _THIS,
    methods_from: Sequence[Path] = (),
    store: Store | None = None,
) -> tuple[Record, Arrays]:
    """Run one spec in a worker process.

    Args:
        spec: what to run.
        root: the data folder.
        machine: where to compute.
        methods_from: files that register methods, see `plugins`.
        store: where results of other runs lie, on which this one may stand.
    """
    plugins.load(methods_from)
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    record, arrays = EXECUTORS[spec["kind"]](spec, root, machine, store)
    threads = {"torch": torch.get_num_threads(), "faiss": faiss.omp_get_max_threads()}
    return {**record, "threads": threads}, arrays


def run(
    specs: Sequence[Spec],
    store: Store,
    *,
    processes: int,
    timeout_s: float,
    force: bool = False,
    root: Path | None = None,
    machine: Machine = _THIS,
    methods_from: Sequence[Path] = (),
    until: float | None = None,
) -> Summary:
    """Run specs that have no result yet. A failure is recorded, and tried again next time.

    Args:
        specs: what to run; of equal specs one is run.
        store: where results lie.
        processes: worker processes, one thread each.
        timeout_s: for one spec.
        force: run even what has a result.
        root: the data folder; None for that of the environment.
        machine: where networks are trained. Workers share it.
        methods_from: files that register methods; each worker reads them.
        until: see `run_jobs`; what is not done then has no result.
    """
    code = environment()["code"]  # read now: sources may change while this runs
    summary = Summary()
    todo: list[Spec] = []
    for spec in specs:
        if spec in todo:
            continue
        if force or not (store.is_refused(spec) or store.has_result(spec)):
            todo.append(spec)
        else:
            _count_skipped(summary, store.load(spec), code, machine)
    files = tuple(path.resolve() for path in methods_from)
    work = partial(execute, root=root, machine=machine, methods_from=files, store=store)
    for part in (_needed(todo, store), todo):  # what others stand on comes first
        jobs = run_jobs(
            work, part, processes, timeout_s, parents=machine.loaders > 0, until=until
        )
        for index, outcome in tqdm(jobs, total=len(part), unit="run", disable=not part):
            _save(store, part[index], outcome)
            summary.failed += outcome.error is not None
            summary.done += outcome.error is None
            summary.refused += outcome.error is None and "refused" in outcome.value[0]
    return summary


def _needed(todo: Sequence[Spec], store: Store) -> list[Spec]:
    """List the embeddings that are asked for and are not there, each once."""
    found: list[Spec] = []
    for spec in todo:
        other = spec.get("behind")
        if other is not None and other not in found and not store.has_result(other):
            found.append(other)
    return found


def _count_skipped(
    summary: Summary, record: Record | None, code: str, machine: Machine
) -> None:
    assert record is not None
    summary.skipped += 1
    summary.stale += record["code"] != code
    if "refused" in record:  # whatever the device
        summary.refused += 1
    else:
        # records older than the option are of the CPU
        summary.elsewhere += not same_device(record.get("device", "cpu"), machine.device)


def _save(store: Store, spec: Spec, outcome: Outcome) -> None:
    about = {**environment(), "wall_s": outcome.wall_s}
    if outcome.error is not None:
        store.save(spec, {"error": outcome.error, **about}, {})
    else:
        record, arrays = outcome.value
        store.save(spec, {**record, **about}, arrays)
