"""A teacher for items without labels: where a random walk on their neighbours leads."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .neighbours import neighbour_graph
from .progress import shown

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

DIFFUSION_TIME = 4  # steps of the random walk
_ROUNDS, _STEPS, _SPARE = 8, 4, 20  # of the subspace iteration
_DEGREE_FLOOR = 1e-6


def diffusion_embedding(
    graph: "csr_matrix",
    dimensions: int,
    *,
    time: int = DIFFUSION_TIME,
    seed: int = 0,
    progress: bool = False,
) -> Tensor:
    r"""Embed the nodes of a graph so that nearby means: connected by many short paths.

    Formula:  rows of D^(-1/2) V Λ^t, of unit length, for the largest eigenvalues Λ of
              D^(-1/2) W D^(-1/2) but the first; D holds the degrees.

    Args:
        graph: symmetric weights W (N, N).
        dimensions: eigenvectors that are kept, at most N - 1.
        time: t >= 0; the larger, the coarser.
        seed: of the iteration's start.
        progress: show a bar.

    Returns:
        (N, dimensions) float32.

    Raises:
        ValueError: dimensions outside 1 to N - 1.

    Source:   diffusion maps (Coifman and Lafon, 2006).  Differs: block power iteration.
    """
    from scipy.sparse import diags

    size = graph.shape[0]
    if not 1 <= dimensions < size:
        raise ValueError(f"dimensions must lie in 1 to {size - 1}, got {dimensions}")
    scale = (np.asarray(graph.sum(1)).ravel() + _DEGREE_FLOOR) ** -0.5
    walk = diags(scale) @ graph @ diags(scale)
    values, vectors = largest_eigenpairs(walk, dimensions + 1, seed=seed, progress=progress)
    rows = scale[:, None] * vectors[:, 1:] * np.maximum(values[1:], 0) ** time
    return F.normalize(torch.from_numpy(rows), dim=1).float()


def largest_eigenpairs(
    matrix: "csr_matrix", count: int, *, seed: int = 0, progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Approximate the largest eigenvalues of a symmetric matrix with norm at most 1.

    Block power iteration: unlike Lanczos, it copes with eigenvalues that repeat.

    Args:
        matrix: (N, N) symmetric.
        count: eigenpairs, at most N.
        seed: of the start.
        progress: show a bar.

    Returns:
        values (count,), falling, and vectors (N, count) in their columns.
    """
    size = matrix.shape[0]
    if size <= 4 * (count + _SPARE):
        values, vectors = np.linalg.eigh(matrix.toarray())
        return values[::-1][:count], vectors[:, ::-1][:, :count]
    block = np.random.default_rng(seed).standard_normal((size, count + _SPARE))
    block[:, 0] = 1
    for _ in shown(range(_ROUNDS), "diffusing", progress):
        for _ in range(_STEPS):
            block = matrix @ block
        block, _ = np.linalg.qr(block)
    values, rotation = np.linalg.eigh(block.T @ (matrix @ block))
    return values[::-1][:count], (block @ rotation)[:, ::-1][:, :count]


def neighbour_teacher(
    x: Tensor, *, neighbours: int, dimensions: int, seed: int = 0, progress: bool = False
) -> Tensor:
    """Embed items by the diffusion of their neighbour graph; few items stay as they are.

    Args:
        x: (N, D) features of unit length.
        neighbours: of each item.
        dimensions: of the embedding.
        seed: of the eigenvectors' start.
        progress: show bars.

    Returns:
        (N, E) float32 of unit length; E is `dimensions` if there are enough items.
    """
    if len(x) < 3:
        return x
    neighbours = max(1, min(neighbours, len(x) // 4))
    dimensions = max(1, min(dimensions, len(x) // 3))
    graph = neighbour_graph(x, neighbours, progress=progress)
    return diffusion_embedding(graph, dimensions, seed=seed, progress=progress)
