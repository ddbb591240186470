"""Ids of rows: whole numbers, not negative, distinct."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Ids = npt.NDArray[np.int64]


def as_ids(ids: Any) -> Ids:
    """One-dimensional int64 array of ids.

    Args:
        ids: a tensor, an array or a sequence of whole numbers.

    Raises:
        TypeError: not whole numbers.  ValueError: not one-dimensional, or beyond int64.
    """
    if isinstance(ids, str | bytes | dict | set | frozenset):
        raise TypeError(f"ids must be a sequence of ids, got {type(ids).__name__}")
    array = ids.cpu().numpy() if isinstance(ids, torch.Tensor) else np.asarray(ids)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"ids must be whole numbers (int64), got {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"ids must have shape (N,), got {array.shape}")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"ids must fit into int64, got {array.max()}")
    return array.astype(np.int64)  # a copy: later changes by the caller stay outside


def check_new_ids(ids: Ids, count: int) -> None:
    """Refuse ids that could not be those of new rows.

    Args:
        ids: one a row.
        count: number of rows.

    Raises:
        ValueError: another number of ids than of rows, negative or repeated ids, or the
            largest int64, after which none could follow.
    """
    if len(ids) != count:
        raise ValueError(f"expected one id a code: {count} codes, {len(ids)} ids")
    if (ids < 0).any():
        raise ValueError(
            f"ids must not be negative (-1 stands for 'none'): {some(ids[ids < 0])}"
        )
    if (ids == np.iinfo(np.int64).max).any():
        raise ValueError("ids must be below 2^63 - 1, so that further ids can follow")
    check_distinct(ids)


def check_distinct(ids: Ids) -> None:
    """Refuse repeated ids.

    Args:
        ids: in any order.

    Raises:
        ValueError: some are repeated; the message names them.
    """
    if ascending(ids):
        return
    values, counts = np.unique(ids, return_counts=True)
    if len(values) < len(ids):
        raise ValueError(f"ids must be distinct; repeated: {some(values[counts > 1])}")


def ascending(ids: Ids) -> bool:
    """Whether each id is larger than the one before.

    Args:
        ids: one-dimensional.
    """
    return bool((ids[1:] > ids[:-1]).all())


def positions(present: Ids, ids: Ids) -> tuple[Ids, npt.NDArray[np.bool_]]:
    """Where ids are in an ascending array, and whether they are.

    Args:
        present: ascending.
        ids: in any order and shape.
    """
    at = np.searchsorted(present, ids)
    if not len(present):
        return at, np.zeros(ids.shape, bool)
    return at, present[np.minimum(at, len(present) - 1)] == ids


def some(ids: Any) -> str:
    """The first few, for a message.

    Args:
        ids: an array or a list.
    """
    return ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
