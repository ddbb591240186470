"""From what a user has (rows, images, a dataset, batches) to batches for a trunk."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, default_collate

Transform = Callable[[Any], Any]


def count_rows(data: Any) -> int | None:
    """Number of rows of data whose rows can be fetched by number, else None.

    Args:
        data: see `batches`.
    """
    countable = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    return None if not countable or isinstance(data, IterableDataset) else len(data)


def batches(
    data: Any,
    batch_size: int,
    num_workers: int = 0,
    transform: Transform | None = None,
    rows: range | None = None,
    pin_memory: bool = False,
) -> Iterator[Tensor]:
    """Yield batches in order, without labels.

    A tensor or array is cut into slices. A sequence or a map-style dataset is read item by
    item, by workers if there are any; an IterableDataset is read by this process alone,
    since workers would repeat its items. Anything else that can be iterated holds batches
    already. An item or a batch may be (data, label, ...), of which the data is taken.

    Args:
        data: what to read.
        batch_size: rows a batch; the last one may be shorter.
        num_workers: of the DataLoader.
        transform: turns the data of one item into a tensor or array.
        rows: which rows to read; all of them by default.
        pin_memory: copy batches to pinned memory, for a CUDA device.

    Raises:
        ValueError: a transform together with ready-made batches.
        TypeError: what is left after the transform is neither a tensor nor an array.
    """
    total = count_rows(data)
    if total is None and not isinstance(data, IterableDataset):
        if transform is not None:
            raise ValueError(
                "transform works on items, but batches were passed: pass the dataset "
                "itself (loader.dataset), or use an encoder without a transform"
            )
        yield from (_as_tensor(_without_label(batch), "a batch") for batch in data)
        return
    if total is not None:
        rows = range(total) if rows is None else rows
    if isinstance(data, Tensor | np.ndarray) and transform is None:
        assert rows is not None
        for i in range(rows.start, rows.stop, batch_size):
            yield _as_tensor(data[i : min(i + batch_size, rows.stop)], "a slice")
        return
    yield from DataLoader(
        data if rows is None else Subset(data, rows),
        batch_size,
        num_workers=0 if rows is None else num_workers,
        collate_fn=functools.partial(_collate, transform),
        pin_memory=pin_memory,
        generator=torch.Generator(),  # its own, so that the user's random numbers stay
    )


def _collate(transform: Transform | None, items: list[Any]) -> Tensor:
    """Runs in the workers, so that transforms do too."""
    data = [_without_label(item) for item in items]
    if transform is not None:
        data = [transform(each) for each in data]
    return default_collate([_as_tensor(each, "an item") for each in data])


def _without_label(item: Any) -> Any:
    return item[0] if isinstance(item, list | tuple) and item else item


def _as_tensor(data: Any, name: str) -> Tensor:
    if isinstance(data, Tensor):
        return data
    if isinstance(data, np.ndarray):
        return torch.from_numpy(np.array(data))  # a copy, as a memory map is read-only
    raise TypeError(
        f"{name} must be a tensor or an array, or (data, label) with such data, once the "
        f"transform has run; got {type(data).__name__}. Images need "
        "HashEncoder(..., transform=...)"
    )
