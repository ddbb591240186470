"""The few things that the processes of a torch process group do together."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

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


def gather_rows(rows: Tensor) -> Tensor:
    """Join the rows of all processes, in order of rank; how many each has may differ.

    Args:
        rows: (n, ...), equal on all processes but for n, which may be 0.

    Returns:
        All rows, the same on every process, without gradient; `rows` itself without a
        process group. The lengths are read by the host.
    """
    _, size = rank_and_size()
    if size == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(size)]
    dist.all_gather(counts, torch.full_like(counts[0], len(rows)))
    lengths = torch.cat(counts).tolist()
    padded = rows.new_zeros(max(lengths), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(parts, padded)
    return torch.cat([part[:n] for part, n in zip(parts, lengths, strict=True)])


def all_reduce_sum(*values: Tensor) -> tuple[Tensor, ...]:
    """Sum each over all processes in one exchange, without reading it on the host.

    Args:
        values: of one dtype, and of the same shapes on all processes.
    """
    if rank_and_size()[1] == 1:
        return values
    flat = torch.cat([value.flatten() for value in values])
    dist.all_reduce(flat)
    parts = flat.split([value.numel() for value in values])
    return tuple(p.view(v.shape) for p, v in zip(parts, values, strict=True))


def as_on_first(values: Tensor) -> Tensor:
    """Take what process 0 has.

    Args:
        values: of one shape on all processes; overwritten.
    """
    if rank_and_size()[1] > 1:
        dist.broadcast(values, 0)
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
