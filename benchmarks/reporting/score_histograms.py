"""Rankings by real scores, in the form that every metric takes: histograms of ties."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

_BLOCK_PAIRS = 2**20  # of queries and items at a time


def score_histograms(scores: Tensor, relevant: Tensor) -> tuple[Tensor, Tensor]:
    """Count items and relevant items at distinct scores, the highest score first.

    Neighbouring scores without a relevant item are counted as one, but for the first score:
    to no metric does their order matter, and thousands of scores become hundreds.

    Args:
        scores: (Q, N) float32, finite.
        relevant: (Q, N) bool.

    Returns:
        items and hits (Q, L) int64, filled up with 0; L is the most that a query has.
    """
    pairs = zip(scores.numpy() + 0.0, relevant.numpy(), strict=True)
    rows = [_of_query(*pair) for pair in pairs]
    width = max((row.shape[1] for row in rows), default=1)
    filled = np.zeros((2, len(rows), width), np.int64)
    for query, row in enumerate(rows):
        filled[:, query, : row.shape[1]] = row
    items, hits = torch.from_numpy(filled)
    return items, hits


def _of_query(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Count for one query: items and hits (2, L) of the first score, gap, tie, gap, ...

    Sorting values alone is far quicker than sorting items.
    """
    rising = np.sort(scores)
    own, hits = np.unique(scores[relevant], return_counts=True)
    # from the top: where ties with relevant items begin and end
    begin = len(scores) - np.searchsorted(rising, own[::-1], "right")
    end = len(scores) - np.searchsorted(rising, own[::-1], "left")
    counts = np.zeros((2, 2 * len(own) + 2), np.int64)
    counts[0, 2::2] = end - begin
    counts[1, 2::2] = hits[::-1]
    ends = np.concatenate([[0], end])
    counts[0, 1::2] = np.append(begin, len(scores)) - ends
    if len(scores) and (not len(own) or own[-1] < rising[-1]):
        first = len(scores) - np.searchsorted(rising, rising[-1], "left")
        counts[0, 0] = first
        counts[0, 1] -= first
    return counts


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
