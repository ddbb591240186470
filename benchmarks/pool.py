"""Worker processes: persistent, one thread each; one that dies costs one job only."""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    )
}
# Without it cuBLAS may add in another order every time.
_WORKER = {**ONE_THREAD, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its value, or the text of its error."""

    value: Any = None
    error: str | None = None
    wall_s: float = 0.0


class _Worker:
    """A process that answers one job at a time."""

    def __init__(self, function: Callable[[Any], Any], parent: bool) -> None:
        self.connection, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(
            target=_serve, args=(theirs, function), daemon=not parent
        )
        self.process.start()
        theirs.close()  # so that the death of the process is seen as end of file
        self.index = -1
        self.since = 0.0

    def start(self, index: int, job: Any) -> None:
        self.index, self.since = index, time.monotonic()
        self.connection.send(job)

    def answer(self) -> Outcome:
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            return self._lost(f"the worker process died with exit code {code}")

    def give_up(self, timeout_s: float) -> Outcome:
        self.stop()
        return self._lost(f"no answer after {timeout_s:g} s")

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _lost(self, error: str) -> Outcome:
        return Outcome(error=error, wall_s=time.monotonic() - self.since)


def run_jobs(
    function: Callable[[Any], Any],
    jobs: Sequence[Any],
    processes: int,
    timeout_s: float,
    parents: bool = False,
    until: float | None = None,
) -> Iterator[tuple[int, Outcome]]:
    """Run function(job) for every job in worker processes.

    Args:
        function: importable by name; its value must be picklable.
        jobs: picklable.
        processes: number of workers. Each has one thread, whatever the machine.
        timeout_s: a job that takes longer is killed and counts as failed.
        parents: jobs start processes of their own.
        until: a time of `time.monotonic`. What runs then is killed, and no other job
            begins; nothing is told of these. None for no such time.

    Yields:
        (position in `jobs`, Outcome), in the order in which jobs end.
    """
    todo = list(range(len(jobs)))[::-1]
    workers: list[_Worker] = []
    try:
        while (todo or workers) and not _is_over(until):
            while todo and len(workers) < processes:
                workers.append(_hire(function, parents))
                _next(workers[-1], todo, jobs)
            for worker, outcome in _answers(workers, timeout_s, until):
                index = worker.index
                if todo and worker.process.is_alive():
                    _next(worker, todo, jobs)
                else:
                    worker.stop()
                    workers.remove(worker)
                yield index, outcome
    finally:
        for worker in workers:
            worker.stop()


def _next(worker: _Worker, todo: list[int], jobs: Sequence[Any]) -> None:
    index = todo.pop()
    worker.start(index, jobs[index])


def _is_over(until: float | None) -> bool:
    return until is not None and time.monotonic() >= until


def _answers(
    workers: list[_Worker], timeout_s: float, until: float | None
) -> list[tuple[_Worker, Outcome]]:
    late = min(worker.since for worker in workers) + timeout_s
    late = late if until is None else min(late, until)
    ready = wait([w.connection for w in workers], timeout=max(late - time.monotonic(), 0))
    answers = [(w, w.answer()) for w in workers if w.connection in ready]
    if not ready:
        now = time.monotonic()
        over = [w for w in workers if now - w.since >= timeout_s]
        answers = [(w, w.give_up(timeout_s)) for w in over]
    return answers


def _hire(function: Callable[[Any], Any], parent: bool) -> _Worker:
    with _environment(_WORKER):  # inherited, so it is set before torch is imported
        return _Worker(function, parent)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        start = time.perf_counter()
        try:
            value, error = function(job), None
        except Exception:
            value, error = None, traceback.format_exc()
        connection.send(Outcome(value, error, time.perf_counter() - start))
