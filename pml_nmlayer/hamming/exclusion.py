"""Pairs of a query and an item that an evaluation leaves out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..labels.checks import as_labels
from .counting import distance
from .pair_counter import PairCounter

Exclude = Tensor | tuple[Any, Any]
"""(Q, N) bool, True where a pair is left out; or group ids (Q,) and (N,) of the two sides,
of which equal ones are left out: the same camera, shop, scene or user."""


@dataclass(frozen=True)
class Exclusion:
    """A checked `Exclude`.

    Args:
        mask: (Q, N), or None with groups.
        groups: (Q,) of the queries, or None with a mask.
        ref_groups: (N,) of the database.
    """

    mask: Tensor | None
    groups: Tensor | None
    ref_groups: Tensor | None

    def dense(self, rows: slice, device: torch.device) -> Tensor:
        """Mask (q, N) of some queries, for those who need ranked lists.

        Args:
            rows: of the queries.
            device: of the result.
        """
        if self.mask is not None:
            return self.mask[rows].to(device)
        assert self.groups is not None
        assert self.ref_groups is not None
        return self.groups[rows].to(device)[:, None] == self.ref_groups.to(device)

    def counts(self, counter: PairCounter, levels: int, own: int | None) -> Tensor:
        """Count the pairs that are left out by distance and grade, (Q, K + 1, levels).

        Args:
            counter: of the evaluation.
            levels: number of grades; larger ones count as the largest.
            own: where the queries begin in the database, or None. What a query is to
                itself is not counted: it is left out in any case.
        """
        total = counter.zeros(len(counter.q), levels)
        for rows, items, mask in self._blocks(counter):
            total[rows] += _count(counter, rows, items, mask, levels, own)
        return total

    def _blocks(
        self, counter: PairCounter
    ) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Queries and items, by number, that hold all pairs; and a mask of them."""
        device, pairs = counter.q.device, counter.blocks.pairs
        if self.mask is None:
            for rows, items in self._same_group(device):
                for some in items.split(min(counter.blocks.references, pairs)):
                    for few in rows.split(max(pairs // len(some), 1)):
                        yield few, some, None
            return
        all_items = torch.arange(len(counter.r), device=device)
        all_rows = torch.arange(len(counter.q), device=device)
        for some in all_items.split(min(counter.blocks.references, pairs)):
            for few in all_rows.split(max(pairs // len(some), 1)) if len(some) else ():
                part = slice(int(few[0]), int(few[-1]) + 1)
                mask = self.mask[part, int(some[0]) : int(some[-1]) + 1].to(device)
                if bool(mask.any()):
                    yield few, some, mask

    def _same_group(self, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        assert self.groups is not None
        assert self.ref_groups is not None
        ids, order = self.ref_groups.to(device).sort()
        found, member = self.groups.to(device).unique(return_inverse=True)
        mine = member.argsort().split(torch.bincount(member).tolist())
        first = torch.searchsorted(ids, found).tolist()
        last = torch.searchsorted(ids, found, right=True).tolist()
        for rows, start, stop in zip(mine, first, last, strict=True):
            if stop > start:
                yield rows, order[start:stop]


def _count(
    counter: PairCounter,
    rows: Tensor,
    items: Tensor,
    mask: Tensor | None,
    levels: int,
    own: int | None,
) -> Tensor:
    size = (counter.bits + 1) * levels
    codes, others = counter.floats(counter.q, rows), counter.floats(counter.r, items)
    cells = distance(codes, others).long().mul_(levels)
    cells += counter.grades_of(rows, items).clamp(max=levels - 1)
    cells += torch.arange(len(rows), device=cells.device)[:, None] * size
    if own is not None:
        others_only = items[None, :] != (rows + own)[:, None]
        mask = others_only if mask is None else mask & others_only
    kept = cells.flatten() if mask is None else cells[mask]
    found = torch.bincount(kept, minlength=len(rows) * size)
    return found.view(len(rows), counter.bits + 1, levels)


def as_exclusion(exclude: Exclude | None, queries: int, items: int) -> Exclusion | None:
    """Check what a user wants to leave out.

    Args:
        exclude: a mask, two arrays of group ids, or None.
        queries: Q.
        items: N.

    Raises:
        ValueError: another shape; TypeError: a mask that is not bool, groups that are no
            numbers.
    """
    if exclude is None:
        return None
    if isinstance(exclude, (tuple, list)) and len(exclude) == 2:
        groups, ref_groups = (as_labels(side, "groups in exclude") for side in exclude)
        if groups.shape != (queries,) or ref_groups.shape != (items,):
            raise ValueError(
                f"group ids in exclude must have shapes ({queries},) and ({items},), got "
                f"{tuple(groups.shape)} and {tuple(ref_groups.shape)}"
            )
        if groups.is_floating_point() or ref_groups.is_floating_point():
            raise TypeError(
                f"group ids in exclude must be integers, got {groups.dtype} and "
                f"{ref_groups.dtype}"
            )
        return Exclusion(None, groups.long(), ref_groups.long())
    mask = exclude if torch.is_tensor(exclude) else torch.as_tensor(exclude)
    if mask.dtype != torch.bool:
        raise TypeError(
            "exclude must be a mask of bool (Q, N), or a tuple of the group ids of queries "
            f"and items; got {mask.dtype} of shape {tuple(mask.shape)}"
        )
    if mask.shape != (queries, items):
        raise ValueError(
            f"exclude must have shape ({queries}, {items}), got {tuple(mask.shape)}"
        )
    return Exclusion(mask, None, None)


def exclude_rows(exclude: Exclude | None, rows: slice) -> Exclude | None:
    """Take the part of some queries.

    Args:
        exclude: as a user gave it.
        rows: of the queries.
    """
    if exclude is None:
        return None
    if isinstance(exclude, (tuple, list)) and len(exclude) == 2:
        return exclude[0][rows], exclude[1]
    mask: Tensor = exclude[rows]
    return mask
