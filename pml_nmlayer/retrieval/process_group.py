"""The few things that the processes of a torch process group do together."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


def rank_and_size() -> tuple[int, int]:
    """Number of this process and of all processes; (0, 1) without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather(value: Any) -> list[Any]:
    """Collect what each process holds.

    Args:
        value: anything that can be pickled.

    Returns:
        The values in order of rank, the same list on every process.
    """
    _, size = rank_and_size()
    if size == 1:
        return [value]
    values = [None] * size
    dist.all_gather_object(values, value)
    return values


def together(work: Callable[[], T]) -> list[T]:
    """Do something on every process, and fail on all of them if it fails on one.

    Without that, the others would wait for the failed one until the group times out.

    Args:
        work: what to do.

    Returns:
        What `work` returned, in order of rank.

    Raises:
        RuntimeError: it failed on another process; its own error is raised where it failed.
    """
    result: Any = None
    error: Exception | None = None
    try:
        result = work()
    except Exception as caught:
        error = caught
    complaint = None if error is None else f"{type(error).__name__}: {error}"
    outcomes = gather((result, complaint))
    if error is not None:
        raise error
    for rank, (_, complaint) in enumerate(outcomes):
        if complaint is not None:
            raise RuntimeError(f"process {rank} failed with {complaint}")
    return [result for result, _ in outcomes]
