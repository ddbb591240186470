"""The rows of an index: codes and their ids, in order of id."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .packed_rows import Bytes

Ids = npt.NDArray[np.int64]


class CodeTable:
    """Codes and ids that grow in parts and read as one pair of arrays sorted by id.

    Args:
        width: bytes a code.
        ids: int64 (N,), ascending.
        codes: uint8 (N, width), in the order of `ids`; both may be memory-mapped.
        next_id: the first id of a part that comes without ids.
        read_only: refuse changes.
    """

    def __init__(
        self,
        width: int,
        ids: Ids | None = None,
        codes: Bytes | None = None,
        next_id: int = 0,
        read_only: bool = False,
    ) -> None:
        ids = np.empty(0, np.int64) if ids is None else ids
        codes = np.empty((0, width), np.uint8) if codes is None else codes
        self.next_id = next_id
        self.read_only = read_only
        self._parts = [(ids, codes)]
        self._in_order = True

    def __len__(self) -> int:
        return sum(len(ids) for ids, _ in self._parts)

    def sorted(self) -> tuple[Ids, Bytes]:
        """Ids in ascending order, and their codes."""
        ids, codes = self._parts[0]
        if len(self._parts) > 1:
            ids = np.concatenate([part for part, _ in self._parts])
            codes = np.concatenate([part for _, part in self._parts])
        if not self._in_order:
            order = np.argsort(ids)
            ids, codes = ids[order], codes[order]
        self._parts, self._in_order = [(ids, codes)], True
        return ids, codes

    def codes_of(self, ids: Ids) -> Bytes:
        """Codes of ids that are present, in any shape.

        Args:
            ids: present ids.
        """
        present, codes = self.sorted()
        return codes[np.searchsorted(present, ids)]

    def append(self, codes: Bytes, ids: Any = None) -> Ids:
        """Add a part.

        Args:
            codes: padded codes.
            ids: their ids; None to count on from the largest id that ever was.

        Returns:
            The ids of the part.

        Raises:
            ValueError: read-only, or ids that are repeated, present, negative, or not one a
                code.
            TypeError: ids of another dtype than whole numbers.
        """
        self.check_writable()
        if ids is None:
            ids = np.arange(self.next_id, self.next_id + len(codes), dtype=np.int64)
        else:
            ids = self._check_new(as_ids(ids), len(codes))
        if len(ids):
            known = self._parts if len(self) else []
            follows = not known or (self._in_order and bool(ids[0] >= self.next_id))
            self._in_order = follows and _ascending(ids)
            self._parts = [*known, (ids, np.array(codes))]  # a copy, as of the ids
            self.next_id = max(self.next_id, int(ids.max()) + 1)
        return ids

    def remove(self, ids: Any) -> Ids:
        """Take codes out.

        Args:
            ids: which.

        Returns:
            The ids as an array.

        Raises:
            ValueError: read-only, or ids that are repeated or absent.
            TypeError: ids of another dtype than whole numbers.
        """
        self.check_writable()
        ids = as_ids(ids)
        present, codes = self.sorted()
        _check_distinct(ids)
        absent = ids[~np.isin(ids, present)]
        if len(absent):
            raise ValueError(f"{len(absent)} ids are not in the index: {_some(absent)}")
        keep = ~np.isin(present, ids)
        self._parts = [(present[keep], codes[keep])]
        return ids

    def check_writable(self) -> None:
        """Refuse a change of a memory-mapped table."""
        if self.read_only:
            raise ValueError(
                "a memory-mapped index is read-only; load it with mmap=False to change it"
            )

    def _check_new(self, ids: Ids, count: int) -> Ids:
        if len(ids) != count:
            raise ValueError(f"expected one id a code: {count} codes, {len(ids)} ids")
        if (ids < 0).any():
            raise ValueError(
                f"ids must not be negative (-1 stands for 'none'): {_some(ids[ids < 0])}"
            )
        _check_distinct(ids)
        if len(ids) and ids.min() < self.next_id:  # else all are new
            present = ids[np.isin(ids, self.sorted()[0])]
            if len(present):
                raise ValueError(
                    f"{len(present)} ids are in the index already: {_some(present)}; "
                    "remove them first, or use other ids"
                )
        return ids


def as_ids(ids: Any) -> Ids:
    """One-dimensional int64 array of ids.

    Args:
        ids: a tensor, an array or a sequence of whole numbers.

    Raises:
        TypeError: not whole numbers.  ValueError: not one-dimensional, or beyond int64.
    """
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


def _ascending(ids: Ids) -> bool:
    return bool((ids[1:] > ids[:-1]).all())


def _check_distinct(ids: Ids) -> None:
    if _ascending(ids):
        return
    values, counts = np.unique(ids, return_counts=True)
    if len(values) < len(ids):
        raise ValueError(f"ids must be distinct; repeated: {_some(values[counts > 1])}")


def _some(ids: Ids) -> str:
    return ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
