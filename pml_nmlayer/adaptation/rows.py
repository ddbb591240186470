"""Rows of features and their classes, taken in blocks from arrays or tensors."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .progress import shown

BLOCK = 8192
FEW_COPIES = 0.05  # of the items: so many do not matter


def take(x: Any, rows: Tensor | slice) -> Tensor:
    """Copy rows of an array or tensor to a float32 tensor on the CPU.

    Args:
        x: (N, D) array (a memory map, too) or tensor of any real dtype.
        rows: indices or a slice.
    """
    if isinstance(x, Tensor):
        return x[rows].detach().to("cpu", torch.float32)
    index = rows.numpy() if isinstance(rows, Tensor) else rows
    return torch.from_numpy(np.array(x[index], dtype=np.float32))


def blocks(x: Any, what: str | None = None) -> Iterator[tuple[slice, Tensor]]:
    """Give blocks of rows with their place.

    Args:
        x: (N, D) array or tensor.
        what: is done with them; a bar says it. None for no bar.
    """
    for start in shown(range(0, len(x), BLOCK), what or "", what is not None):
        rows = slice(start, start + BLOCK)
        yield rows, take(x, rows)


def without_copies(x: Any, rows: Tensor) -> Tensor:
    """Leave equal items out, all but the first: copies of an item are its own neighbours.

    Args:
        x: (N, D) array or tensor.
        rows: (M,) of which.

    Returns:
        rows, in their order; all of them if few are copies.
    """
    if not len(rows):
        return rows
    items = take(x, rows).numpy()
    bytes_of_row = np.dtype((np.void, items.dtype.itemsize * items.shape[1]))
    first = np.unique(items.view(bytes_of_row).ravel(), return_index=True)[1]
    if len(first) > (1 - FEW_COPIES) * len(rows):
        return rows
    return rows[torch.from_numpy(np.sort(first))]


@dataclass
class Labels:
    """What is known of items: a class, several labels, or nothing.

    Args:
        classes: (N,) class indices from 0; -1: unlabelled. With multi-hot rows, 0 stands
            for all that are labelled.
        names: (C, ...) the classes or labels that indices stand for.
        rows: (N, C) multi-hot uint8 where items have several labels; else None.
    """

    classes: Tensor
    names: Any
    rows: Tensor | None = None


def read_labels(y: Any, count: int) -> Labels:
    """Read class ids or multi-hot rows; -1 stays the sign of an unlabelled item.

    Args:
        y: None, (N,) ids of any kind, or (N, C) multi-hot rows. A -1, or a row of -1,
            is unlabelled. Rows that all have one label mean what class ids mean. One
            class for all items says nothing of any: all are unlabelled then.
        count: N.

    Raises:
        ValueError: another number of labels than items, more than two dimensions, rows of
            other values, or labels that are missing: None, NaN or an empty string.
    """
    if y is None:
        return Labels(torch.full((count,), -1), np.empty(0))
    if isinstance(y, Tensor):
        y = y.detach().cpu()  # NumPy knows no bfloat16
        y = (y.double() if y.is_floating_point() else y).numpy()
    labels = np.asarray(y)
    if labels.dtype.kind in "US" and isinstance(y, (list, tuple)):
        # Of what is missing NumPy has made "nan" and "None"
        labels = np.array(y, dtype=object)
    if labels.ndim not in (1, 2) or len(labels) != count:
        raise ValueError(
            f"y must have shape ({count},) or ({count}, C), got {labels.shape}: one "
            "class id or one multi-hot row for each row of X"
        )
    if labels.ndim == 2:
        return _multi_hot(labels)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels)
    _check_none_missing(labels)
    if labels.dtype.kind in "iuf":
        unlabelled = labels == -1
    else:
        unlabelled = np.array(
            [v in (-1, "-1", "-1.0") for v in labels.tolist()], dtype=bool
        )
    known = labels[~unlabelled]
    if known.dtype == object:
        known = np.array([str(v) for v in known.tolist()])
    return _of_ids(known, unlabelled)


def _of_ids(known: Any, unlabelled: Any) -> Labels:
    indices = np.full(len(unlabelled), -1, dtype=np.int64)
    names, found = np.unique(known, return_inverse=True)
    if len(names) > 1 or unlabelled.any():  # else one class has all items
        indices[~unlabelled] = found
    return Labels(torch.from_numpy(indices), names)


def _check_none_missing(labels: Any) -> None:
    if labels.dtype.kind in "iub":
        return
    missing = sum(map(_is_missing, labels.tolist()))
    if missing:
        raise ValueError(
            f"y holds no label (None, NaN or '') for {missing} of {len(labels)} items; "
            "write -1 for an item without a label, such as y.fillna(-1) in pandas"
        )


def _is_missing(label: Any) -> bool:
    try:
        return label is None or label == "" or bool(label != label)
    except TypeError:  # of pandas' NA nothing is true, and nothing false
        return True


def _multi_hot(labels: Any) -> Labels:
    unlabelled = (labels == -1).all(1)
    known = labels[~unlabelled]
    wrong = labels[~np.isin(labels, (0, 1)).all(1) & ~unlabelled]
    if labels.shape[1] < 2 or len(wrong):
        row = wrong[0] if len(wrong) else labels[0]
        raise ValueError(
            "y of shape (N, C) must hold multi-hot rows of 0 and 1 with at least two "
            f"columns, or rows of -1; got shape {labels.shape} and a row that "
            f"begins with {row.tolist()[:5]}. Class ids go in shape (N,)"
        )
    if (known.sum(1) == 1).all():
        return _of_ids(known.argmax(1), unlabelled)
    indices = np.where(unlabelled, -1, 0)
    rows = torch.from_numpy((labels == 1).astype(np.uint8))
    return Labels(torch.from_numpy(indices), np.arange(labels.shape[1]), rows)
