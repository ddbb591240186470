"""Codes as other stores keep them: signed bytes, hexadecimal strings, 64-bit words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .index_contents import MAX_BITS
from .packed_rows import Bytes, flag, packed_rows, whole


def codes_to_signed_bytes(codes: Any, bits: int | None = None) -> npt.NDArray[np.int8]:
    r"""Packed codes as bytes from -128 to 127, as Elasticsearch and Vespa take them.

    Args:
        codes: -1 and +1, or packed uint8; tensor or array.
        bits: code length K in bits; required for packed codes only.

    Shapes:   codes (N, K), packed (N, ceil(K / 8)) -> (N, ceil(K / 8)) int8.
    Returns:  the packed bytes, those from 128 on less 256; the inverse is
              `signed_bytes_to_codes`.
    Raises:   ValueError, TypeError: not codes of this length, or packed codes without
              `bits`.

    Example:
        >>> codes_to_signed_bytes(torch.tensor([[1, -1, 1]])).tolist()
        [[-96]]
    """
    return _packed(codes, bits)[0].view(np.int8)


def signed_bytes_to_codes(values: Any, bits: int) -> Tensor:
    r"""Read codes from signed bytes; the inverse of `codes_to_signed_bytes`.

    Args:
        values: whole numbers from -128 to 127; an array, a tensor or nested lists.
        bits: code length K in bits.

    Shapes:   (N, ceil(K / 8)) -> (N, K).
    Returns:  float32 tensor of -1 and +1.
    Raises:   ValueError: values out of range, another width, or bits set beyond K.
              TypeError: no whole numbers.

    Example:
        >>> signed_bytes_to_codes([[-96]], 3)
        tensor([[ 1., -1.,  1.]])
    """
    array = _whole_numbers(values, "signed bytes")
    if array.size and (array.min() < -128 or array.max() > 127):
        raise ValueError(f"signed bytes lie between -128 and 127, got {array.ravel()[:5]}")
    return _unpacked(array.astype(np.int8).view(np.uint8), bits)


def codes_to_hex(codes: Any, bits: int | None = None) -> list[str]:
    r"""Packed codes as strings, two hexadecimal digits a byte, first bit highest.

    Args:
        codes: -1 and +1, or packed uint8; tensor or array.
        bits: code length K in bits; required for packed codes only.

    Shapes:   codes (N, K), packed (N, ceil(K / 8)) -> N strings of 2 ceil(K / 8) digits.
    Returns:  list of strings in lower case; the inverse is `hex_to_codes`.
    Raises:   ValueError, TypeError: not codes of this length, or packed codes without
              `bits`.

    Example:
        >>> codes_to_hex(torch.tensor([[1, -1, 1]]))
        ['a0']
    """
    return [row.tobytes().hex() for row in _packed(codes, bits)[0]]


def hex_to_codes(strings: Sequence[str], bits: int) -> Tensor:
    r"""Read codes from hexadecimal strings; the inverse of `codes_to_hex`.

    Args:
        strings: of 2 ceil(K / 8) digits each, in either case.
        bits: code length K in bits.

    Shapes:   N strings -> (N, K).
    Returns:  float32 tensor of -1 and +1.
    Raises:   ValueError: other digits, another length, or bits set beyond K.
              TypeError: no strings.

    Example:
        >>> hex_to_codes(["a0"], 3)
        tensor([[ 1., -1.,  1.]])
    """
    digits = 2 * -(-whole(bits, "bits", most=MAX_BITS) // 8)
    if isinstance(strings, str) or not all(isinstance(each, str) for each in strings):
        raise TypeError("expected a list of strings of hexadecimal digits")
    wrong = [each for each in strings if len(each) != digits or not _is_hex(each)]
    if wrong:
        raise ValueError(
            f"codes of {bits} bits are {digits} hexadecimal digits each, got {wrong[0]!r}"
        )
    content = np.frombuffer(bytes.fromhex("".join(strings)), np.uint8)
    return _unpacked(content.reshape(len(strings), digits // 2), bits)


def codes_to_words(codes: Any, bits: int | None = None, *, signed: bool = False) -> Any:
    r"""Codes as 64-bit integers, for BIT_COUNT(a ^ b) in MySQL or ClickHouse.

    The first bit is the highest of the first word; missing bits of the last word are 0.

    Args:
        codes: -1 and +1, or packed uint8; tensor or array.
        bits: code length K in bits; required for packed codes only.
        signed: int64 of the same bits, where a store has no unsigned integers.

    Shapes:   codes (N, K), packed (N, ceil(K / 8)) -> (N, ceil(K / 64)).
    Returns:  uint64 or int64 array; the inverse is `words_to_codes`.
    Raises:   ValueError, TypeError: not codes of this length, or packed codes without
              `bits`.

    Example:
        >>> codes_to_words(torch.tensor([[1, -1, 1]])).tolist()
        [[11529215046068469760]]
    """
    packed = _packed(codes, bits)[0]
    rows = np.zeros((len(packed), 8 * -(-packed.shape[1] // 8)), np.uint8)
    rows[:, : packed.shape[1]] = packed
    words = rows.view(">u8").astype(np.uint64)
    return words.view(np.int64) if flag(signed, "signed") else words


def words_to_codes(words: Any, bits: int) -> Tensor:
    r"""Read codes from 64-bit integers; the inverse of `codes_to_words`.

    Args:
        words: signed or unsigned whole numbers; an array, a tensor or nested lists.
        bits: code length K in bits.

    Shapes:   (N, ceil(K / 64)) -> (N, K).
    Returns:  float32 tensor of -1 and +1.
    Raises:   ValueError: another width, numbers beyond 64 bits, or bits set beyond K.
              TypeError: no whole numbers.

    Example:
        >>> words_to_codes([[11529215046068469760]], 3)
        tensor([[ 1., -1.,  1.]])
    """
    array = _whole_numbers(words, "words")
    unsigned = array.view(np.uint64) if array.dtype == np.int64 else array
    width = -(-whole(bits, "bits", most=MAX_BITS) // 64)
    if array.shape[1] != width:
        raise ValueError(
            f"codes of {bits} bits are {width} words each, got {array.shape[1]}"
        )
    rows = unsigned.astype(">u8").view(np.uint8).reshape(len(array), 8 * width)
    used = -(-bits // 8)
    if rows[:, used:].any():
        raise ValueError(f"the words have bits set beyond the first {bits}")
    return _unpacked(np.ascontiguousarray(rows[:, :used]), bits)


def packed_bits(codes: Any, bits: int | None) -> int:
    """Length of codes, which packed ones do not tell.

    Args:
        codes: -1 and +1, or packed uint8.
        bits: what the caller said; None for nothing.

    Raises:
        ValueError: packed codes without `bits`.
    """
    if bits is not None:
        return whole(bits, "bits", most=MAX_BITS)
    if getattr(codes, "dtype", None) in (torch.uint8, np.uint8):
        raise ValueError("codes are packed (uint8): pass bits=, their length in bits")
    return int(codes.shape[-1]) if getattr(codes, "ndim", 0) else 1


def _packed(codes: Any, bits: int | None) -> tuple[Bytes, int]:
    bits = packed_bits(codes, bits)
    return packed_rows(codes, bits), bits


def _unpacked(packed: Bytes, bits: int) -> Tensor:
    packed = packed_rows(packed, whole(bits, "bits", most=MAX_BITS))
    return torch.from_numpy(np.unpackbits(packed, axis=1, count=bits)).float() * 2 - 1


def _whole_numbers(values: Any, name: str) -> npt.NDArray[Any]:
    """A two-dimensional array of int64, or of uint64 where that is needed."""
    try:
        array = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be rows of equal length: {error}") from None
    if array.dtype.kind == "O" and all(type(each) is int for each in array.ravel()):
        raise ValueError(f"{name} must fit into 64 bits")
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} must be whole numbers, got {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name} must have shape (N, W), got {array.shape}")
    return np.ascontiguousarray(array, np.uint64 if array.dtype == np.uint64 else np.int64)


def _is_hex(text: str) -> bool:
    return set(text) <= set("0123456789abcdefABCDEF")
