"""Read items one by one; say which one cannot be read, or leave it out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

# Where datasets keep the files of their items
_FILES = ("samples", "imgs", "images", "paths", "files", "filenames")


@dataclass
class Batch:
    """Rows that were read, and why others were not.

    Args:
        size: number of rows, read or not.
        data: those that were read; None if none was.
        unreadable: reasons by place in the batch.
    """

    size: int
    data: Tensor | None
    unreadable: dict[int, str] = field(default_factory=dict)

    def pin_memory(self) -> "Batch":
        """For the DataLoader."""
        if self.data is not None:
            self.data = self.data.pin_memory()
        return self


@dataclass
class _Unreadable:
    """In the place of an item."""

    why: str


class ItemReader:
    """A map-style dataset of items that went through a transform.

    Args:
        data: a sequence or a map-style dataset.
        rows: which items, in this order.
        transform: turns the data of one item into a tensor or array; None for none.
        skip: put a note in the place of an item that cannot be read.
    """

    def __init__(self, data: Any, rows: range, transform: Any, skip: bool) -> None:
        self._data = data
        self._rows = rows
        self._transform = transform
        self._skip = skip

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> Any:
        row = self._rows[place]
        item: Any = None
        try:
            item = self._data[row]
            return transformed(item, self._transform)
        except Exception as error:
            why = self._explain(row, item, error)
            if self._skip:
                return _Unreadable(why)
            raise _same_kind(error, why) from error

    def __getitems__(self, places: list[int]) -> list[Any]:
        """All at once, where the dataset can; one by one if that fails."""
        if callable(getattr(self._data, "__getitems__", None)):
            try:
                items = self._data.__getitems__([self._rows[place] for place in places])
                return [transformed(item, self._transform) for item in items]
            except Exception:
                pass  # the loop finds the one that it is
        return [self[place] for place in places]

    def _explain(self, row: int, item: Any, error: Exception) -> str:
        file = _file_of(self._data, row, item)
        return (
            f"item {row}{'' if file is None else f' ({file})'} could not be read: "
            f"{type(error).__name__}: {error}"
        )


def transformed(item: Any, transform: Any) -> Tensor:
    """Take the data of an item, without its label, through the transform.

    Args:
        item: data, or (data, label, ...).
        transform: None for none.

    Raises:
        TypeError: what is left is neither a tensor nor an array.
    """
    data = without_label(item)
    return as_tensor(data if transform is None else transform(data), "an item")


def collate(items: list[Any]) -> Batch:
    """Put items into a batch; runs in the workers.

    Args:
        items: of an `ItemReader`.

    Raises:
        ValueError: items of several shapes.
    """
    unreadable = {
        i: item.why for i, item in enumerate(items) if isinstance(item, _Unreadable)
    }
    data = [item for item in items if not isinstance(item, _Unreadable)]
    shapes = {tuple(item.shape) for item in data}
    if len(shapes) > 1:
        raise ValueError(
            f"items of one batch have shapes {sorted(shapes)}; the transform must make "
            "them equal"
        )
    return Batch(len(items), default_collate(data) if data else None, unreadable)


def without_label(item: Any) -> Any:
    """Data of (data, label, ...).

    Args:
        item: that, or data alone.
    """
    return item[0] if isinstance(item, list | tuple) and item else item


def as_tensor(data: Any, name: str) -> Tensor:
    """Make a tensor of an array.

    Args:
        data: a tensor or an array.
        name: how a message calls it.

    Raises:
        TypeError: something else.
    """
    if isinstance(data, Tensor):
        return data
    if isinstance(data, np.ndarray):
        if data.dtype.kind not in "biufc":
            raise TypeError(f"{name} must hold numbers, got an array of {data.dtype}")
        return torch.from_numpy(np.array(data))  # a copy, as a memory map is read-only
    raise TypeError(
        f"{name} must be a tensor or an array, or (data, label) with such data, once the "
        f"transform has run; got {type(data).__name__}. Images need "
        "HashEncoder(..., transform=...)"
    )


def _file_of(data: Any, row: int, item: Any) -> str | None:
    """The file of an item, as far as it can be told."""
    known = without_label(item)
    name = getattr(known, "filename", None) or (
        known if isinstance(known, str | PathLike) else None
    )
    for attribute in _FILES if name is None else ():
        files = getattr(data, attribute, None)
        if isinstance(files, list | tuple | np.ndarray) and len(files) > row:
            entry = without_label(files[row])
            name = entry if isinstance(entry, str | PathLike) else None
            break
    if name is None and isinstance(known, Mapping):
        name = next((v for v in known.values() if isinstance(v, str | PathLike)), None)
    return None if name is None else str(name)


def _same_kind(error: Exception, text: str) -> Exception:
    """An error of the same class, where its class can be made from a text."""
    try:
        other = type(error)(text)
    except Exception:
        return RuntimeError(text)
    return other if text in str(other) else RuntimeError(text)
