"""Notice outputs that are never negative, whose codes are all the same."""

import math
import warnings

import torch
from torch import Tensor, nn

from .head_layers import flatten

_ROWS, _BITS = 32, 8
# Outputs that happen to be positive all (items of one class, whose codeword is all +1) lie
# around a mean that is several spreads above 0. A rectified or squashed output does not.
_SPREAD = 0.4
_NEVER_NEGATIVE = (
    nn.ReLU,
    nn.ReLU6,
    nn.Sigmoid,
    nn.Hardsigmoid,
    nn.Softmax,
    nn.Softplus,
)
_CURE = (
    "Codes are signs, so every code would be the same: use the outputs before the {last}, "
    "or subtract what lies in the middle (0.5 for a sigmoid)"
)


def refuse_one_sided_head(head: nn.Module) -> None:
    """Refuse a head that ends in a layer whose outputs are never negative.

    Args:
        head: a module.

    Raises:
        ValueError: it does.
    """
    last = flatten(head)[-1:]
    if last and isinstance(last[0], _NEVER_NEGATIVE):
        name = type(last[0]).__name__
        raise ValueError(
            f"the head ends in {name}, whose outputs are never negative. "
            + _CURE.format(last=name)
        )


class SignWatch:
    """Looks at outputs until one is negative, or there are enough to be certain."""

    def __init__(self) -> None:
        self._watching = True
        self._rows = 0
        self._count = 0
        self._sum = 0.0
        self._squares = 0.0

    def see(self, u: Tensor) -> None:
        """Take a batch into account.

        Args:
            u: outputs (B, K) without NaN.

        Raises:
            ValueError: all outputs so far are >= 0, and that is no coincidence.
        """
        if not self._watching or not u.numel():
            return
        values = torch.nan_to_num(u.detach().double(), posinf=0.0)
        low, total, squares = (
            torch.stack([u.min().double(), values.sum(), values.square().sum()])
        ).tolist()
        if low < 0:
            self._watching = False
            return
        self._rows += len(u)
        self._count += u.numel()
        self._sum, self._squares = self._sum + total, self._squares + squares
        if self._rows >= _ROWS and u.shape[1] >= _BITS:
            mean = self._sum / self._count
            spread = math.sqrt(max(self._squares / self._count - mean**2, 0.0))
            if mean == 0 or spread > _SPREAD * mean:
                raise ValueError(
                    f"all outputs for the first {self._rows} rows are >= 0"
                    f"{' (they are all 0)' if mean == 0 else ''}. "
                    + _CURE.format(last="last activation (ReLU, sigmoid, ...)")
                )

    def finish(self) -> None:
        """Warn if no output of many was negative."""
        if self._watching and self._rows >= _ROWS and self._count >= _BITS * self._rows:
            warnings.warn(
                f"no output for {self._rows} rows is negative, so all codes are the same. "
                "Right for items of one class only; otherwise remove the last activation "
                "(ReLU, sigmoid, ...)",
                stacklevel=4,
            )
