"""Outputs that have no sign: what becomes one code is refused before it is judged."""

from typing import NamedTuple

import torch
from torch import Tensor

# Below this many numbers all of them may be positive by chance.
_ENOUGH = 64


class OutputRange(NamedTuple):
    """Which values outputs have; of several parts, add them up with `joined`.

    Fields:
        numbers: how many there are.
        low: smallest.
        high: largest.
        only_bits: whether all are 0 or 1.
    """

    numbers: int = 0
    low: float = 1.0
    high: float = -1.0
    only_bits: bool = True

    def joined(self, other: "OutputRange") -> "OutputRange":
        """Range of both.

        Args:
            other: of more outputs.
        """
        parts = [part for part in (self, other) if part.numbers]
        if len(parts) < 2:
            return parts[0] if parts else self
        return OutputRange(
            self.numbers + other.numbers,
            min(self.low, other.low),
            max(self.high, other.high),
            self.only_bits and other.only_bits,
        )

    def check(self, name: str = "outputs") -> None:
        """Refuse outputs that all have one sign.

        Args:
            name: how the message calls them.

        Raises:
            ValueError: bits of 0 and 1, or many outputs of which none is negative.
        """
        if self.numbers == 0 or self.low < 0:
            return
        if self.only_bits and self.low == 0 and self.high == 1:
            raise ValueError(
                f"{name} are bits of 0 and 1, which all have the sign +1: pass 2 * bits - 1"
            )
        if self.numbers >= _ENOUGH and not self.low == self.high == 1:
            raise ValueError(
                f"{name} are never negative ({self.low:g} to {self.high:g}), so that all "
                "items get one code. Take the last ReLU or sigmoid away, or subtract the "
                "threshold, ½ for a sigmoid"
            )


def range_of(outputs: Tensor, name: str = "outputs") -> OutputRange:
    """Tell which values outputs have.

    Args:
        outputs: (N, K), real before sign, or codes of -1 and +1.
        name: how the message calls them.

    Raises:
        TypeError: bool, packed bytes or complex numbers; ValueError: not (N, K), or NaN.
    """
    if outputs.dtype == torch.bool:
        raise TypeError(f"{name} are bool: pass 2 * {name}.float() - 1")
    if outputs.dtype == torch.uint8:
        raise TypeError(
            f"{name} are uint8, as packed codes are: pass unpack_codes(packed, bits), or "
            "2 * bits.float() - 1 for a byte a bit"
        )
    if outputs.is_complex() or outputs.ndim != 2 or outputs.shape[1] == 0:
        raise ValueError(
            f"{name} must be real numbers of shape (N, K), got {outputs.dtype} of shape "
            f"{tuple(outputs.shape)}"
        )
    if len(outputs) == 0:
        return OutputRange()
    low, high = outputs.aminmax()
    if bool(low.isnan()):
        raise ValueError(
            f"{name} hold NaN, which has no sign; look for a diverged training run"
        )
    bits = bool(((outputs == 0) | (outputs == 1)).all())
    return OutputRange(outputs.numel(), float(low), float(high), bits)


def check_outputs(*sides: Tensor, name: str = "outputs") -> None:
    """Refuse outputs that all have one sign, and what is neither ±1 nor real around 0.

    Args:
        sides: outputs or codes (N, K) that are judged or stored together.
        name: how the message calls them.

    Raises:
        TypeError, ValueError: as `range_of` and `OutputRange.check`.
    """
    total = OutputRange()
    for side in sides:
        total = total.joined(range_of(side, name))
    total.check(name)
