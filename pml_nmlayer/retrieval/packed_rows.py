"""Codes in any accepted form -> packed bytes, as wide as faiss searches fast."""

import operator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..codes.convention import check_codes

Bytes = npt.NDArray[np.uint8]

# Widths in bytes for which faiss has its own loop. Measured with faiss-cpu 1.15 on one
# thread, these take 0.9 to 1.7 ns a pair and the widths between them 4 to 8 ns. Index files
# hold padded codes: another choice needs another format version.
_FAST_WIDTHS = (4, 8, 16, 20, 32)


def padded_width(bits: int) -> int:
    """Bytes a code takes inside an index: zeros are appended up to a fast width.

    Args:
        bits: code length K in bits.
    """
    width = -(-bits // 8)
    return next((fast for fast in _FAST_WIDTHS if fast >= width), width)


def whole(value: Any, name: str, least: int = 1, most: int | None = None) -> int:
    """Check a whole number.

    Args:
        value: what came.
        name: how a message calls it.
        least: the smallest value allowed.
        most: the largest value allowed; None for 2^63 - 1.

    Raises:
        TypeError: not a whole number; a bool is none.  ValueError: out of range.
    """
    most = 2**63 - 1 if most is None else most
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or _is_bool(value):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    if number > most:
        raise ValueError(f"{name} must be at most {most}, got {value}")
    return number


def flag(value: Any, name: str) -> bool:
    """Check True or False.

    Args:
        value: what came.
        name: how a message calls it.

    Raises:
        TypeError: something else.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def _is_bool(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    return isinstance(value, bool) or dtype in (torch.bool, np.dtype(bool))


def packed_rows(codes: Any, bits: int, name: str = "codes") -> Bytes:
    """Pack codes, or check packed ones.

    Args:
        codes: -1 and +1, or packed uint8; a tensor on any device, or an array.
        bits: code length K in bits.
        name: how a message calls the codes.

    Shapes:   (N, K), or packed (N, ceil(K / 8)) -> (N, ceil(K / 8)) uint8.
    Raises:   TypeError: neither tensor nor array, or an unsigned, boolean or complex dtype
              other than uint8.  ValueError: another length than K, values other than -1 and
              +1 (NaN too), or a bit set beyond K.
    """
    if not isinstance(codes, Tensor | np.ndarray):
        raise TypeError(
            f"{name} must be a tensor or an array of shape (N, K), got "
            f"{type(codes).__name__}"
        )
    if codes.dtype in (torch.uint8, np.uint8):
        packed = codes.cpu().numpy() if isinstance(codes, Tensor) else codes
        _check_packed(packed, bits, name)
        return np.ascontiguousarray(packed)
    if not isinstance(codes, Tensor) and codes.dtype.kind not in "if":
        raise TypeError(_wrong_dtype(name, codes.dtype))
    signs = torch.tensor(codes) if isinstance(codes, np.ndarray) else codes.detach()
    if signs.dtype is torch.bool or signs.is_complex():
        raise TypeError(_wrong_dtype(name, signs.dtype))
    check_codes(signs, name)
    if signs.shape[1] != bits:
        raise ValueError(f"{name} have {signs.shape[1]} bits, expected {bits}")
    return np.packbits((signs > 0).cpu().numpy(), axis=1)


def pad(packed: Bytes, width: int) -> Bytes:
    """Append zero bytes.

    Args:
        packed: uint8 rows.
        width: bytes a row in the end.
    """
    if packed.shape[1] == width:
        return packed
    rows = np.zeros((len(packed), width), np.uint8)
    rows[:, : packed.shape[1]] = packed
    return rows


def _check_packed(packed: Bytes, bits: int, name: str) -> None:
    width = -(-bits // 8)
    if packed.ndim != 2 or packed.shape[1] != width:
        raise ValueError(
            f"packed {name} of {bits} bits must be uint8 of shape (N, {width}), got shape "
            f"{packed.shape}"
        )
    beyond = (1 << (8 * width - bits)) - 1
    if (packed[:, -1] & np.uint8(beyond)).any():
        raise ValueError(
            f"packed {name} have bits set beyond the first {bits}; were they packed with "
            "another length?"
        )


def _wrong_dtype(name: str, dtype: Any) -> str:
    return (
        f"{name} must be -1 and +1 in a signed dtype, or packed uint8 (see pack_codes), "
        f"got {dtype}"
    )
