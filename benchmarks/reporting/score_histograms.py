"""Rankings by real scores, in the form that every metric takes: histograms of ties."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

_BLOCK_PAIRS = 2**20  # of queries and items at a time


def score_histograms(scores: Tensor, relevant: Tensor) -> tuple[Tensor, Tensor]:
    """Count items and relevant items at each distinct score, the highest score first.

    Args:
        scores: (Q, N) float32, finite.
        relevant: (Q, N) bool.

    Returns:
        items and hits (Q, L) int64, filled up with 0; L is the most distinct scores that a
        query has.
    """
    places = (scores + 0.0).contiguous().view(torch.int32)  # -0.0 becomes 0.0
    rising = torch.where(places < 0, places ^ 0x7FFFFFFF, places).long()
    # the order of the scores and relevance in one number: sorting values is far quicker
    # than sorting items
    keys = np.sort((-2 * rising + relevant).numpy(), axis=1)
    level, hit = keys >> 1, keys & 1
    new = np.zeros(keys.shape, np.int64)
    new[:, 1:] = level[:, 1:] != level[:, :-1]
    place = new.cumsum(1)
    width = int(place[:, -1].max()) + 1 if keys.size else 1
    cells = (np.arange(len(keys))[:, None] * width + place).ravel()
    size = len(keys) * width
    counts = [
        torch.from_numpy(np.bincount(cells, weights, size)).long().view(-1, width)
        for weights in (None, hit.ravel())
    ]
    return counts[0], counts[1]


def scored_blocks(queries: Tensor, stored: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield inner products of some queries at a time; equal items get equal scores.

    A matrix product may round the same column in two ways, so that it is taken with
    distinct items alone.

    Args:
        queries: (Q, D) float32.
        stored: (N, D) float32.
    """
    rows, places = np.unique(stored.numpy(), axis=0, return_inverse=True)
    distinct, place = torch.from_numpy(rows), torch.from_numpy(places.reshape(-1))
    step = max(_BLOCK_PAIRS // max(len(stored), 1), 1)
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        yield block, (queries[block] @ distinct.T)[:, place]
