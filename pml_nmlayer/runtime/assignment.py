"""Assign rows to columns so that the sum of gains is largest."""

import torch
from torch import Tensor


def assign_columns(gains: Tensor) -> Tensor:
    """Give every row a column of its own, so that the sum of gains is largest.

    Args:
        gains: (R, N) with R <= N, on the CPU.

    Returns:
        (R,) int64.
    """
    from scipy.optimize import linear_sum_assignment  # takes a while to import

    _, columns = linear_sum_assignment(gains.numpy(), maximize=True)
    return torch.as_tensor(columns)
