r"""Retrieval metrics of Hamming rankings, exact in the presence of ties.

Integer distances tie, and a metric that breaks ties by database order measures that order.
Here every metric is a function of per-query histograms (see `hamming`): either it does not
depend on the order of tied items at all, or it is the expectation over all their orders.

Words used below, for one query: n_d and h_d are the items and the relevant items ("hits")
at distance d; N_d and H_d are those at smaller distances; R is the number of all hits.
A query without any relevant item has no rank to judge. The one rule about it: its value is
NaN, and means leave it out (empty="skip", as PML does) or count it as 0 (empty="zero").

`conventional_average_precision` alone needs ranked lists: it is there for comparison.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from ..runtime.options import check_count

TieOrder = Literal["expected", "best", "worst"]

# Below torch's limit of 2^15 an operation stays on one thread, and 256 KB in its cache. The
# many short steps of AP, spread over two threads of a busy machine, took 40 times as long.
_BLOCK_CELLS = 2**15 - 1


def _query_blocks(
    q: Tensor, bits: int | None, bytes_of_cell: int, max_bytes: int
) -> Iterator[slice]:
    """Blocks of queries whose metric stays within the budget; one empty block for Q = 0."""
    check_count("bits", bits, none="codes that are not packed")
    check_count("max_bytes", max_bytes)
    cells = (q.shape[-1] if bits is None else bits) + 1
    step = max(max_bytes // (bytes_of_cell * cells), 1)
    for start in range(0, max(len(q), 1), step):
        # The last block is open, so that labels too many are noticed.
        yield slice(start, start + step if start + step < len(q) else None)


def _harmonic(a: Tensor, m: Tensor) -> Tensor:
    r"""Sum over p = 1..m of 1 / (a + p), to full precision for large a as well.

    A difference of two harmonic numbers of size ln a loses digits that the callers then
    multiply by a. With x = a + 1 it is ψ(x + m) - ψ(x); the logarithms of ψ's expansion
    combine to log1p(m / x), and what remains is small.
    """
    x = a + 1
    far = torch.log1p(m / x) + _digamma_tail(x + m) - _digamma_tail(x)
    near = torch.digamma(x + m) - torch.digamma(x)
    return torch.where(m > 0, torch.where(x < 16, near, far), 0.0)


def _digamma_tail(x: Tensor) -> Tensor:
    """ψ(x) - ln x for x >= 16 by its asymptotic series (error below 1e-16)."""
    y = x.clamp(min=16).pow(-2)
    series = 1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132)))
    return -0.5 / x.clamp(min=16) - y * series


def _check_histograms(items: Tensor, hits: Tensor) -> None:
    for name, side in (("items", items), ("hits", hits)):
        if not torch.is_tensor(side) or side.is_floating_point() or side.is_complex():
            raise TypeError(
                f"{name} must be counts, an integer tensor (Q, K + 1) as "
                f"hamming_histograms returns it; got {getattr(side, 'dtype', side)}"
            )
    if items.ndim != 2 or items.shape != hits.shape:
        raise ValueError(
            "items and hits must both have shape (Q, K + 1), got "
            f"{tuple(items.shape)} and {tuple(hits.shape)}"
        )
    if bool(((hits < 0) | (hits > items)).any()):
        raise ValueError("hits must lie between 0 and items at every distance")


def _check_counts(counts: Tensor) -> None:
    if not torch.is_tensor(counts) or counts.ndim != 3 or counts.shape[2] < 2:
        raise ValueError(
            "counts must have shape (Q, K + 1, G), G >= 2, as grade_histograms returns "
            f"them; got {tuple(getattr(counts, 'shape', ())) or type(counts).__name__}"
        )
    if bool((counts < 0).any()) or counts.is_floating_point():
        raise ValueError(
            f"counts must be whole numbers >= 0, got {counts.dtype} from "
            f"{counts.min().item()}"
        )
