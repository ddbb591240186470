"""Strings as ids: each stands for the number that the rows of an index have."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .row_ids import Ids, some

Texts = npt.NDArray[np.object_]


def are_names(ids: Any) -> bool:
    """Whether ids are strings; the first one decides.

    Args:
        ids: whatever a user gave.
    """
    if isinstance(ids, np.ndarray):
        return ids.dtype.kind in "UT" or (
            ids.dtype.kind == "O" and ids.size > 0 and isinstance(ids.flat[0], str)
        )
    is_sequence = isinstance(ids, Sequence) and not isinstance(ids, str | bytes)
    return is_sequence and len(ids) > 0 and isinstance(ids[0], str)


def as_names(ids: Any) -> list[str]:
    """Check strings.

    Args:
        ids: a sequence or a one-dimensional array.

    Raises:
        TypeError: something else than strings.  ValueError: another shape, an empty string.
    """
    if isinstance(ids, str | bytes | torch.Tensor) or not isinstance(ids, Iterable):
        raise TypeError(
            f"this index has strings as ids, so ids must be a list of strings, got "
            f"{type(ids).__name__}"
        )
    if isinstance(ids, np.ndarray):
        if ids.ndim != 1:
            raise ValueError(f"ids must have shape (N,), got {ids.shape}")
        ids = ids.tolist()
    names = list(ids)
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise TypeError(
            f"this index has strings as ids, got {type(wrong[0]).__name__}: {wrong[0]!r}"
        )
    if "" in names:
        raise ValueError("an id must not be the empty string")
    for name in names:
        name.encode()  # a lone surrogate could not be saved
    return [str(name) for name in names]


class Names:
    """Strings by number and numbers by string; numbers follow the order of adding."""

    def __init__(self) -> None:
        self.number: dict[str, int] = {}
        self.text: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.number)

    def add(self, names: list[str], numbers: Ids) -> None:
        """Take new strings in.

        Args:
            names: distinct, none known.
            numbers: one each, none known.
        """
        pairs = list(zip(names, numbers.tolist(), strict=True))
        self.number.update(pairs)
        self.text.update((number, name) for name, number in pairs)

    def remove(self, numbers: Ids) -> None:
        """Forget.

        Args:
            numbers: known ones.
        """
        for number in numbers.tolist():
            del self.number[self.text.pop(number)]

    def numbers(self, names: list[str]) -> Ids:
        """Numbers of known strings.

        Args:
            names: in any order.

        Raises:
            ValueError: unknown ones.
        """
        absent = [name for name in names if name not in self.number]
        if absent:
            raise ValueError(f"{len(absent)} ids are not in the index: {some(absent)}")
        return np.array([self.number[name] for name in names], np.int64)

    def texts(self, numbers: Ids) -> Texts:
        """Strings of numbers, None for -1.

        Args:
            numbers: known ones or -1, in any shape.
        """
        texts = np.empty(numbers.shape, object)
        texts.ravel()[:] = [self.text.get(number) for number in numbers.ravel().tolist()]
        return texts

    def to_arrays(self, numbers: Ids) -> dict[str, npt.NDArray[Any]]:
        """What a file keeps.

        Args:
            numbers: all, in ascending order.
        """
        parts = [self.text[number].encode() for number in numbers.tolist()]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        text = np.frombuffer(b"".join(parts), np.uint8)
        return {"names": text, "name_ends": ends}

    @classmethod
    def from_arrays(cls, numbers: Ids, text: Any, ends: Ids) -> "Names":
        """Read what `to_arrays` gave.

        Args:
            numbers: all, in ascending order.
            text: all strings in UTF-8.
            ends: where each ends.

        Raises:
            ValueError: the parts do not fit together.
        """
        names = cls()
        stops = ends.tolist()
        starts = [0, *stops[:-1]] if stops else []
        content = text.tobytes()
        if any(a >= b for a, b in zip(starts, stops, strict=True)) or (
            (stops[-1] if stops else 0) != len(content)
        ):
            raise ValueError("the strings do not fit together")
        decoded = [content[a:b].decode() for a, b in zip(starts, stops, strict=True)]
        if len(set(decoded)) != len(decoded) or len(decoded) != len(numbers):
            raise ValueError("the strings are not distinct, or not one a code")
        names.add(decoded, numbers)
        return names
