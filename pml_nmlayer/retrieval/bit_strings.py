"""Codes as strings of 0 and 1, the text form of PostgreSQL's type bit(n)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .packed_rows import packed_rows
from .stored_forms import packed_bits


def codes_to_bit_strings(codes: Any, bits: int | None = None) -> list[str]:
    r"""Write each code as a string: "1" for +1, "0" for -1, first bit first.

    Args:
        codes: -1 and +1, or packed uint8; tensor or array.
        bits: code length K in bits; required for packed codes only.

    Shapes:   codes (N, K), packed (N, ceil(K / 8)) -> N strings of K characters.
    Returns:  list of strings; the inverse is `bit_strings_to_codes`.
    Raises:   ValueError, TypeError: not codes of this length, or packed codes without
              `bits`.

    Example:
        >>> codes_to_bit_strings(torch.tensor([[1, -1, 1]]))
        ['101']
    """
    bits = packed_bits(codes, bits)
    packed = packed_rows(codes, bits)
    text = np.unpackbits(packed, axis=1, count=bits) + np.uint8(ord("0"))
    return text.view(f"S{bits}").ravel().astype(f"U{bits}").tolist()


def bit_strings_to_codes(strings: Sequence[str]) -> Tensor:
    r"""Read codes from strings of 0 and 1; the inverse of `codes_to_bit_strings`.

    Args:
        strings: at least one, all of one length K.

    Shapes:   N strings of K characters -> (N, K).
    Returns:  float32 tensor of -1 and +1.
    Raises:   ValueError: no strings, other characters than 0 and 1, or several lengths.
              TypeError: no list of strings.

    Example:
        >>> bit_strings_to_codes(["101"])
        tensor([[ 1., -1.,  1.]])
    """
    if isinstance(strings, str) or not all(isinstance(each, str) for each in strings):
        raise TypeError("expected a list of strings of 0 and 1")
    lengths = {len(string) for string in strings}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"expected strings of one length K >= 1, got {len(strings)} strings of lengths "
            f"{sorted(lengths)}"
        )
    text = "".join(strings)
    if not set(text) <= {"0", "1"}:
        raise ValueError(f"expected 0 and 1 only, got {sorted(set(text) - {'0', '1'})}")
    ones = np.frombuffer(text.encode(), np.uint8).reshape(len(strings), -1) - ord("0")
    return torch.from_numpy(ones).float() * 2 - 1
