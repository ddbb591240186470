"""Outputs of a batch -> packed codes, with rows of zeros for items that were not read."""

import warnings
from typing import Any

import torch
from torch import Tensor

from ..codes.convention import raw_sign
from ..codes.packing import pack_codes
from .item_reader import Batch

_UNSIGNED = (torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64)


def check_outputs(u: Any, batch: Batch, bits: int | None, first: int) -> None:
    """Refuse outputs that have no codes.

    Args:
        u: what the head returned.
        batch: of the items that were read.
        bits: code length, None if it is not known yet.
        first: row of the first item.

    Raises:
        ValueError: another shape, or NaN.  TypeError: no tensor of real numbers.
    """
    if not isinstance(u, Tensor) or u.is_complex() or u.dtype in _UNSIGNED:
        kind = u.dtype if isinstance(u, Tensor) else type(u).__name__
        raise TypeError(f"the head must return a tensor of real numbers, got {kind}")
    rows = batch.size - len(batch.unreadable)
    if u.ndim != 2 or u.shape != (rows, bits or u.shape[-1]) or not u.shape[1]:
        raise ValueError(
            f"the head must return ({rows}, {bits or 'bits'}) for this "
            f"batch, got {tuple(u.shape)}"
        )
    if bool(torch.isnan(u.sum())):  # a cheap sign of NaN; infinities may cause it too
        nan = torch.isnan(u).any(1)
        if bool(nan.any()):
            row = first + _read_places(batch)[int(nan.nonzero()[0])]
            raise ValueError(f"the output for row {row} holds NaN, which has no sign")


def codes_of_batch(u: Tensor | None, batch: Batch, bits: int | None, first: int) -> Tensor:
    """Pack the signs of outputs.

    Args:
        u: outputs of the items that were read; None if none was.
        batch: with the places of the others.
        bits: code length.
        first: row of the first item.

    Returns:
        (B, ceil(bits / 8)) uint8 on the CPU.

    Raises:
        ValueError: no item was read, and the code length is unknown.
    """
    if u is not None and not batch.unreadable:
        return pack_codes(raw_sign(u)).cpu()
    if bits is None:
        why = next(iter(batch.unreadable.values()))
        raise ValueError(
            f"no item of rows {first} to {first + batch.size - 1} can be read, so the code "
            f"length is unknown: {why}"
        )
    codes = torch.zeros(batch.size, -(-bits // 8), dtype=torch.uint8)
    if u is not None:
        codes[_read_places(batch)] = pack_codes(raw_sign(u)).cpu()
    return codes


def warn_of_skipped(skipped: dict[int, str]) -> None:
    """Name items that were left out, if there are any.

    Args:
        skipped: reasons by row.
    """
    if skipped:
        reasons = "; ".join(list(skipped.values())[:3])
        warnings.warn(
            f"{len(skipped)} items could not be read, their codes are zeros: {reasons}"
            + ("; ..." if len(skipped) > 3 else ""),
            stacklevel=3,
        )


def _read_places(batch: Batch) -> list[int]:
    return [at for at in range(batch.size) if at not in batch.unreadable]
