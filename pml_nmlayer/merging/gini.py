"""How unequal values are."""

from torch import Tensor


def gini(values: Tensor) -> float:
    r"""Inequality of non-negative values: 0 if all are equal, towards 1 if one has all.

    Formula:  G = sum over i, j of |v_i - v_j| / (2 K sum of v); negative values count as 0.

    Args:
        values: importances of bits.

    Shapes:   (K,) -> float.
    Returns:  value in [0, 1); 0 if no value is positive.
    Raises:   nothing.
    Source:   Gini 1912.  Differs: negative importances are clipped.

    Example:
        >>> import torch
        >>> gini(torch.tensor([0., 0., 0., 1.]))
        0.75
    """
    v = values.double().clamp(min=0)
    total = float(v.sum())
    if total == 0:
        return 0.0
    return float((v[:, None] - v[None, :]).abs().sum()) / (2 * len(v) * total)
