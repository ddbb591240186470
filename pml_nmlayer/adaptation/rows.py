"""Rows of features and their classes, taken in blocks from arrays or tensors."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

BLOCK = 8192


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


def blocks(x: Any) -> Iterator[tuple[slice, Tensor]]:
    """Give blocks of rows with their place.

    Args:
        x: (N, D) array or tensor.
    """
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        yield rows, take(x, rows)


def class_indices(y: Any, count: int) -> tuple[Tensor, Any]:
    """Number the classes of items; -1 stays the sign of an unlabelled item.

    Args:
        y: None, (N,) ids of any kind, or (N, C) multi-hot rows. A -1, or a row of -1,
            is unlabelled. Each set of labels counts as a class of its own.
        count: N.

    Returns:
        indices (N,) int64 from 0, and the classes (C, ...) that they stand for.

    Raises:
        ValueError: another number of labels than items, or more than two dimensions.
    """
    if y is None:
        return torch.full((count,), -1), np.empty(0)
    labels = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    if labels.ndim not in (1, 2) or len(labels) != count:
        raise ValueError(
            f"y must have shape ({count},) or ({count}, C), got {labels.shape}: one "
            "class id or one multi-hot row for each row of X"
        )
    if labels.ndim == 2:
        unlabelled = (labels == -1).all(1)
    elif labels.dtype.kind in "iuf":
        unlabelled = labels == -1
    else:
        unlabelled = np.array([v == -1 or v == "-1" for v in labels.tolist()], dtype=bool)
    indices = np.full(count, -1, dtype=np.int64)
    known = labels[~unlabelled]
    if known.dtype == object:
        names = np.array([str(v) for v in known.tolist()])
        known = names
    classes, places = np.unique(known, axis=0, return_inverse=True)
    indices[~unlabelled] = places.reshape(-1)
    return torch.from_numpy(indices), classes
