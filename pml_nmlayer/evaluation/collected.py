"""Items that were collected: packed codes with what belongs to their rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..labels.checks import as_labels


class Side(NamedTuple):
    """Items of one role.

    Fields:
        codes: packed, (N, ceil(K / 8)).
        labels: class ids (N,) or rows (N, C).
        groups: (N,) int64, or None.
        ids: (N,) int64, or None.
    """

    codes: Tensor
    labels: Tensor
    groups: Tensor | None = None
    ids: Tensor | None = None

    @classmethod
    def of(
        cls, codes: Tensor | None, labels: Tensor, groups: Any, ids: Any, count: int
    ) -> "Side":
        """Check one batch.

        Args:
            codes: packed; None for an empty batch.
            labels: checked labels.
            groups: what came.
            ids: what came.
            count: number of items.
        """
        packed = torch.empty(0, 1, dtype=torch.uint8) if codes is None else codes
        numbers = [
            _numbers(values, count, name)
            for values, name in ((groups, "groups"), (ids, "ids"))
        ]
        return cls(packed, labels.detach().cpu().clone(), *numbers)

    def check_like(self, other: "Side", labelled: bool) -> None:
        """Refuse items that do not go together with others.

        Args:
            other: of an earlier batch.
            labelled: whether labels must be of one kind.
        """
        if labelled and self.labels.shape[1:] != other.labels.shape[1:]:
            raise ValueError(
                f"labels have shape {tuple(self.labels.shape)}, those before "
                f"{tuple(other.labels.shape)}; all must be of one kind"
            )
        for name in ("groups", "ids"):
            if (getattr(self, name) is None) != (getattr(other, name) is None):
                raise ValueError(f"some batches have {name} and others have none")


def _numbers(values: Any, count: int, name: str) -> Tensor | None:
    if values is None:
        return None
    numbers = as_labels(values, name)
    if numbers.shape != (count,) or numbers.is_floating_point():
        raise ValueError(
            f"{name} must be {count} whole numbers, one an item; got {numbers.dtype} of "
            f"shape {tuple(numbers.shape)}"
        )
    return numbers.detach().long().cpu().clone()


def joined(parts: Sequence[Side]) -> Side | None:
    """Join items in order; None for none.

    Args:
        parts: which all have the same fields.
    """
    if not parts:
        return None
    whole = [
        None if column[0] is None else torch.cat([x for x in column if x is not None])
        for column in zip(*parts, strict=True)
    ]
    return _side(whole)


def without_repeats(side: Side | None) -> Side | None:
    """Keep the first of all items of one id.

    Args:
        side: with or without ids.
    """
    if side is None or side.ids is None:
        return side
    _, member = side.ids.unique(return_inverse=True)
    places = torch.arange(len(member))
    first = torch.full((int(member.max()) + 1,), len(member)).scatter_reduce(
        0, member, places, "amin"
    )
    kept = first.sort().values
    return _side([None if column is None else column[kept] for column in side])


def _side(columns: Sequence[Tensor | None]) -> Side:
    codes, labels, groups, ids = columns
    assert codes is not None
    assert labels is not None
    return Side(codes, labels, groups, ids)
