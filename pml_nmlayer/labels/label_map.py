"""Any ids of classes as 0 .. C - 1, and back."""

from collections.abc import Hashable, Iterable
from typing import Any

import torch
from torch import Tensor


class LabelMap:
    r"""Map the ids of a data set to 0 .. C - 1, as class-wise losses and heads want them.

    Use it for ids that begin with 1, have gaps, are strings, or are 64-bit hashes. Classes
    are numbered in sorted order, so that equal sets of ids give equal maps.

    Args:
        labels: all class ids there are, in any order, with repeats: tensor, array or list.

    Shapes:   calls: (N,) ids -> (N,) int64, on the device of a tensor; one id -> int.
    Returns:  `classes`, a list, holds the id of each number; len() is C.
    Raises:   ValueError: no ids, rows instead of ids, NaN, or an id that the map has not
              seen.
    Source:   this package.  Differs: sklearn's LabelEncoder takes no tensors.

    Example:
        >>> names = LabelMap(["owl", "cat", "owl"])
        >>> names(["owl", "cat"]), names.inverse(torch.tensor([1, 0]))
        (tensor([1, 0]), ['owl', 'cat'])
        >>> LabelMap(torch.tensor([7, 1001, 3]))(torch.tensor([1001, 3]))
        tensor([2, 0])
    """

    def __init__(self, labels: Any) -> None:
        found = set(_values(labels))
        if not found:
            raise ValueError("labels hold no ids, so there is nothing to map")
        if any(each != each for each in found):  # what only NaN is
            raise ValueError("labels hold NaN, which is no class")
        try:
            self.classes: list[Any] = sorted(found)
        except TypeError:
            self.classes = sorted(found, key=lambda each: (type(each).__name__, str(each)))
        self._number = {each: i for i, each in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self.classes)

    def __call__(self, labels: Any) -> Any:
        """Map ids to numbers.

        Args:
            labels: ids (N,), or one id.
        """
        if not _is_list(labels):
            return self._look_up([_value(labels)])[0]
        device = labels.device if torch.is_tensor(labels) else None
        return torch.tensor(self._look_up(_values(labels)), dtype=torch.long, device=device)

    def inverse(self, numbers: Tensor | Iterable[int]) -> list[Any]:
        """Give the ids of numbers 0 .. C - 1.

        Args:
            numbers: what a call returned.
        """
        values = [int(each) for each in numbers]
        if values and not (min(values) >= 0 and max(values) < len(self)):
            raise ValueError(
                f"numbers must lie in [0, {len(self)}), got {min(values)} to {max(values)}"
            )
        return [self.classes[each] for each in values]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelMap) and self.classes == other.classes

    def __hash__(self) -> int:
        return hash(tuple(self.classes))

    def __repr__(self) -> str:
        return f"LabelMap({len(self)} classes, {self.classes[0]!r} to {self.classes[-1]!r})"

    def _look_up(self, values: list[Hashable]) -> list[int]:
        unknown = [each for each in dict.fromkeys(values) if each not in self._number]
        if unknown:
            raise ValueError(
                f"the map has not seen {unknown[:8]}; build it from the ids of all splits, "
                f"it knows {len(self)}: {self.classes[:8]}"
            )
        return [self._number[each] for each in values]


def _is_list(labels: Any) -> bool:
    one = isinstance(labels, (str, bytes)) or getattr(labels, "ndim", 1) == 0
    return hasattr(labels, "__iter__") and not one


def _values(labels: Any) -> list[Hashable]:
    if not _is_list(labels):
        raise ValueError(f"labels must be a list of ids, got {type(labels).__name__}")
    if getattr(labels, "ndim", 1) != 1:
        raise ValueError(
            f"labels must be ids of shape (N,), got {tuple(labels.shape)}; multi-hot "
            "rows need no map"
        )
    if torch.is_tensor(labels):
        return labels.tolist()
    return [_value(each) for each in labels]


def _value(label: Any) -> Hashable:
    value: Hashable = label.item() if hasattr(label, "item") else label
    return value
