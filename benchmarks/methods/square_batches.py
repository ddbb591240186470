"""Batches of equally many items a class, for losses that need them."""

import math

import torch
from torch import Tensor

MOST = 6  # the loss holds n⁶ numbers, and goes through the n² items one by one


def square_batches(labels: Tensor, size: int) -> list[Tensor]:
    """Draw as many batches as `batches`, of n items of each of n classes, class by class.

    n is as large as the size, the classes and MOST allow. PML's SmoothAPLoss needs equally
    many items a class, and takes the number of items for the number of classes.
    """
    order, counts = labels.argsort(stable=True), torch.bincount(labels)
    starts = counts.cumsum(0) - counts
    n = min(math.isqrt(size), MOST)
    while int((counts >= n).sum()) < n:
        n -= 1
    frequent = torch.where(counts >= n)[0]

    def batch() -> Tensor:
        classes = frequent[torch.randperm(len(frequent))[:n]].tolist()
        return torch.cat(
            [order[starts[c] + torch.randperm(int(counts[c]))[:n]] for c in classes]
        )

    return [batch() for _ in range(len(labels) // size)]
