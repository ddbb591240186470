"""Exact search by a scan of all codes, with a defined order of ties.

Distances come from faiss. Which of the items that tie at the k-th distance faiss returns is
not part of its contract, so that tie is looked up again, from the first code on.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from .packed_rows import Bytes

Ints = npt.NDArray[Any]

# What one call may return at most, in pairs of query and code (12 bytes each inside faiss).
_CALL_PAIRS = 2**22
_CALL_QUERIES = 256
# Blocks of codes grow: many ties are found early, and few of them cost few calls.
_FIRST_BLOCK = 2**12


def nearest(queries: Bytes, codes: Bytes, k: int) -> tuple[Ints, Ints]:
    """Find the k nearest codes; ties go to the smaller position.

    Args:
        queries: packed codes (Q, W).
        codes: packed codes (N, W), N >= k.
        k: number of neighbours, >= 1.

    Returns:
        (distances int32 (Q, k), positions int64 (Q, k)): the k smallest pairs (distance,
        position) in lexicographic order.
    """
    import faiss

    distances, positions = faiss.knn_hamming(queries, codes, k)
    last = distances[:, -1]
    if k < len(codes):
        for radius in np.unique(last):
            rows = np.flatnonzero(last == radius)
            counts = (distances[rows] == radius).sum(1)
            for i in range(0, len(rows), _CALL_QUERIES):
                some, wanted = rows[i : i + _CALL_QUERIES], counts[i : i + _CALL_QUERIES]
                first = _first_at(queries[some], codes, int(radius), wanted)
                for row, count, found in zip(some, wanted, first, strict=True):
                    positions[row, k - count :] = found
    order = np.lexsort((positions, distances))
    return distances, np.take_along_axis(positions, order, axis=1)


def within(queries: Bytes, codes: Bytes, radius: int) -> tuple[Ints, Ints, Ints]:
    """Find all codes within a radius, inclusive.

    Args:
        queries: packed codes (Q, W).
        codes: packed codes (N, W).
        radius: in bits.

    Returns:
        (limits (Q + 1,), distances int32, positions int64): query q has those from
        limits[q] to limits[q + 1], in no particular order.
    """
    step = max(_CALL_PAIRS // max(len(codes), 1), 16)
    found = [
        _within(queries[i : i + step], codes, radius) for i in range(0, len(queries), step)
    ]
    if not found:
        return np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.int64)
    limits, distances, positions = zip(*found, strict=True)
    sizes = np.concatenate([np.diff(limit) for limit in limits])
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    return ends, np.concatenate(distances), np.concatenate(positions)


def _first_at(queries: Bytes, codes: Bytes, radius: int, wanted: Ints) -> list[Ints]:
    """For each query, the first `wanted` positions at exactly this distance."""
    found: list[list[Ints]] = [[] for _ in queries]
    missing = wanted.copy()
    start, block = 0, _FIRST_BLOCK
    while (unfinished := np.flatnonzero(missing > 0)).size:
        assert start < len(codes), "faiss counted more ties than there are"
        stop = start + min(block, max(_CALL_PAIRS // len(unfinished), 1))
        block *= 2
        limits, distances, positions = _within(
            queries[unfinished], codes[start:stop], radius
        )
        for row, low, high in zip(unfinished, limits[:-1], limits[1:], strict=True):
            ties = positions[low:high][distances[low:high] == radius]
            ties = np.sort(ties)[: missing[row]]
            found[row].append(ties + start)
            missing[row] -= len(ties)
        start = stop
    return [np.concatenate(parts) for parts in found]


def _within(queries: Bytes, codes: Bytes, radius: int) -> tuple[Ints, Ints, Ints]:
    import faiss

    library: Any = faiss  # its type stubs leave this function out
    result = faiss.RangeSearchResult(len(queries))
    library.hamming_range_search(
        faiss.swig_ptr(queries),
        faiss.swig_ptr(codes),
        len(queries),
        len(codes),
        radius + 1,  # faiss keeps distances below its radius
        codes.shape[1],
        result,
    )
    limits = faiss.rev_swig_ptr(result.lims, len(queries) + 1).astype(np.int64)
    total = int(limits[-1])
    distances = faiss.rev_swig_ptr(result.distances, total).astype(np.int32)
    return limits, distances, faiss.rev_swig_ptr(result.labels, total).copy()
