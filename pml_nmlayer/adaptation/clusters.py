"""Anchors: centroids of k-means, which a read-out turns into a non-linear map."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .progress import shown

_ROUNDS = 12
_BLOCK = 4096


def spherical_kmeans(
    x: Tensor, count: int, *, seed: int = 0, progress: bool = False
) -> Tensor:
    """Find centroids of unit length.

    Args:
        x: (N, D) features of unit length.
        count: centroids K, at most N.
        seed: of the items that they start from.
        progress: show a bar.

    Returns:
        (K, D) float32.

    Raises:
        ValueError: count outside 1 to N.

    Example:
        >>> spherical_kmeans(torch.eye(3), 3).sum().item()
        3.0
    """
    if not 1 <= count <= len(x):
        raise ValueError(f"count must lie in 1 to {len(x)}, got {count}")
    generator = torch.Generator().manual_seed(seed)
    centroids = x[torch.randperm(len(x), generator=generator)[:count]].clone()
    for _ in shown(range(_ROUNDS), "finding anchors", progress):
        sums = torch.zeros_like(centroids)
        for block in x.split(_BLOCK):
            sums.index_add_(0, (block @ centroids.T).argmax(1), block)
        empty = sums.square().sum(1) == 0
        centroids = torch.where(empty[:, None], centroids, F.normalize(sums, dim=1))
    return centroids
