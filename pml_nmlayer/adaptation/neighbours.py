"""Nearest neighbours in blocks, and the graph that they make."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .progress import shown

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_BLOCK = 1024  # rows of similarities held at once
SHARPNESS = 3  # power of the cosine, as in diffusion for retrieval


def nearest_neighbours(
    x: Tensor, count: int, *, progress: bool = False
) -> tuple[Tensor, Tensor]:
    """Find the nearest other items of each item, by inner product.

    Args:
        x: (N, D) features, of unit length for the cosine.
        count: neighbours K of each, at most N - 1.
        progress: show a bar.

    Returns:
        similarities (N, K), falling, and indices (N, K).

    Raises:
        ValueError: count outside 1 to N - 1.

    Example:
        >>> nearest_neighbours(torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), 1)[1]
        tensor([[1],
                [0],
                [1]])
    """
    if not 1 <= count < len(x):
        raise ValueError(f"count must lie in 1 to {len(x) - 1}, got {count}")
    values = x.new_empty(len(x), count)
    indices = torch.empty(len(x), count, dtype=torch.int64)
    for start in shown(range(0, len(x), _BLOCK), "finding neighbours", progress):
        block = x[start : start + _BLOCK] @ x.T
        rows = torch.arange(len(block))
        block[rows, start + rows] = -torch.inf
        top = block.topk(count, dim=1)
        values[start : start + len(block)] = top.values
        indices[start : start + len(block)] = top.indices
    return values, indices


def neighbour_graph(x: Tensor, count: int, *, progress: bool = False) -> "csr_matrix":
    """Connect items that are neighbours in at least one direction.

    Mutual neighbours alone leave many items unconnected. Their graph falls into pieces.

    Args:
        x: (N, D) features of unit length.
        count: neighbours of each item, at most N - 1.
        progress: show a bar.

    Returns:
        symmetric (N, N) weights: the cosine to the power of three, 0 if it is negative.
    """
    from scipy.sparse import csr_matrix

    values, indices = nearest_neighbours(x, count, progress=progress)
    weights = values.clamp(min=0).double().numpy() ** SHARPNESS
    ends = np.arange(0, indices.numel() + 1, count)
    shape = (len(x), len(x))
    graph = csr_matrix((weights.ravel(), indices.numpy().ravel(), ends), shape=shape)
    return graph.maximum(graph.T).tocsr()
