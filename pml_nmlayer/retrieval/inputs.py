"""From what a user has (rows, images, a dataset, batches) to batches for a trunk."""

import functools
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from .item_reader import Batch, ItemReader, as_tensor, collate, transformed, without_label
from .loader_order import check_order

Transform = Callable[[Any], Any]


class _InOrder:
    """The items of a pandas Series by position, whatever their labels."""

    def __init__(self, series: Any) -> None:
        self._series = series

    def __len__(self) -> int:
        return len(self._series)

    def __getitem__(self, row: int) -> Any:
        return self._series.iloc[row]


def in_order(data: Any) -> Any:
    """Make data whose rows are found by label into data whose rows are found by position.

    Args:
        data: see `batches`.

    Raises:
        ValueError: a single number.
        TypeError: a string; a dictionary, which has keys in the place of rows; a table
            with other columns than numbers.
    """
    if isinstance(data, str | bytes | PathLike):
        raise TypeError(
            f"data must hold items, got the {type(data).__name__} {data!r}: pass a list of "
            "items, with a transform that reads one"
        )
    if isinstance(data, Tensor | np.ndarray) and data.ndim == 0:
        raise ValueError("data must have rows, got a single number")
    if isinstance(data, Mapping):
        raise TypeError(
            f"a {type(data).__name__} has keys, not rows in an order: pass "
            "list(data.values()), and keep list(data) beside the codes"
        )
    if not hasattr(data, "iloc"):
        return data
    if getattr(data, "ndim", 1) == 1:
        return _InOrder(data)
    array = data.to_numpy()
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"the columns of this {type(data).__name__} are not all numbers: pass the "
            "column that holds the items"
        )
    return array


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
    """Yield batches in order, without labels; see `read`.

    Args:
        data: what to read.
        batch_size: rows a batch; the last one may be shorter.
        num_workers: of the DataLoader.
        transform: turns the data of one item into a tensor or array.
        rows: which rows to read; all of them by default.
        pin_memory: copy batches to pinned memory, for a CUDA device.
    """
    for batch in read(data, batch_size, num_workers, transform, rows, pin_memory):
        assert batch.data is not None
        yield batch.data


def read(
    data: Any,
    batch_size: int,
    num_workers: int = 0,
    transform: Transform | None = None,
    rows: range | None = None,
    pin_memory: bool = False,
    skip: bool = False,
) -> Iterator[Batch]:
    """Yield batches in order, without labels.

    A tensor or array is cut into slices. A sequence or a map-style dataset is read item by
    item, by workers if there are any. An IterableDataset is read by this process alone,
    since workers would repeat its items. Anything else that can be iterated holds batches
    already. An item or a batch may be (data, label, ...), of which the data is taken.

    Args:
        data: what to read.
        batch_size: rows a batch; the last one may be shorter.
        num_workers: of the DataLoader.
        transform: turns the data of one item into a tensor or array.
        rows: which rows to read; all of them by default.
        pin_memory: copy batches to pinned memory, for a CUDA device.
        skip: note items that cannot be read, and go on.

    Raises:
        ValueError: a transform together with ready-made batches; a loader that shuffles or
            drops rows.
        TypeError: what is left after the transform is neither a tensor nor an array; data
            that cannot be read in an order.
    """
    data = in_order(data)
    total = count_rows(data)
    if total is None and not isinstance(data, IterableDataset):
        yield from _ready_made(data, transform, skip)
        return
    if total is not None:
        rows = range(total) if rows is None else rows
    elif skip:
        raise ValueError(
            "unreadable='skip' needs items by number, since a stream cannot go on after an "
            f"error: pass a map-style dataset in the place of this {type(data).__name__}"
        )
    if isinstance(data, Tensor | np.ndarray) and transform is None:
        assert rows is not None
        for i in range(rows.start, rows.stop, batch_size):
            part = as_tensor(data[i : min(i + batch_size, rows.stop)], "a slice")
            yield Batch(len(part), part)
        return
    items: Dataset[Any] | ItemReader = data
    if rows is not None:
        items = ItemReader(data, rows, transform, skip)
    yield from DataLoader(
        items,  # type: ignore[arg-type]
        batch_size,
        num_workers=0 if rows is None else num_workers,
        collate_fn=collate if rows is not None else functools.partial(_stream, transform),
        pin_memory=pin_memory,
        generator=torch.Generator(),  # its own, so that the user's random numbers stay
    )


def _ready_made(data: Any, transform: Transform | None, skip: bool) -> Iterator[Batch]:
    if transform is not None:
        raise ValueError(
            "transform works on items, but batches were passed: pass the dataset "
            "itself (loader.dataset), or use an encoder without a transform"
        )
    if skip:
        raise ValueError(
            "unreadable='skip' works on items, but batches were passed: pass the dataset "
            "itself (loader.dataset)"
        )
    if isinstance(data, DataLoader):
        check_order(data)
    elif isinstance(data, set | frozenset) or not hasattr(data, "__iter__"):
        raise TypeError(
            "data must be a tensor, an array, a sequence of items, a dataset or an "
            f"iterable of batches, got {type(data).__name__}"
        )
    for batch in data:
        tensor = as_tensor(without_label(batch), "a batch")
        yield Batch(len(tensor) if tensor.ndim else 0, tensor)


def _stream(transform: Transform | None, items: list[Any]) -> Batch:
    return collate([transformed(item, transform) for item in items])
