"""Counting pairs by distance and grade, block by block: what `hamming` is made of.

How it was chosen: nanoseconds a pair of 48 bits, 200 to 1,000 queries x 59,000 items, one
thread of a Xeon at 2.8 GHz (Ice Lake) that other work shared:

- matrix product, then bincount: 4.3; the same with two queries in one number: 1.6 to 2.0;
- NumPy's bitwise_count of uint64, then bincount: 3.0 (and NumPy 2 or newer);
- faiss, IndexBinaryFlat.search with k = 100: 8.0, and a list of k is no histogram;
- numba, XOR and popcount with four histograms a query: 1.0, for another dependency.

The product wins what torch alone can win: it runs on every device, takes labels along (see
`hamming`), and a number that holds two distances halves both the product and the count.
"""

import torch
from torch import Tensor

# Two queries share a number only where their joint table is small and well filled. At 128
# bits (16,641 cells) both ways took the same time, at 256 bits two in one were slower.
_JOINT_CELLS = 2**14
_TABLE_CELLS = 2**18  # counters of a block of queries: 2 MB stay in the second-level cache


def value_counts(a: Tensor, b: Tensor, bins: int, pairs: int) -> Tensor:
    r"""Count the values of each row of a product of integers, without keeping it.

    Formula:  counts_iv = |{n: (a b)_in = v}|.

    Two rows i and j share a number, (bins a_i + a_j) b, if their joint histogram is small:
    one product and one count then serve both.

    Args:
        a: rows; the last column is a constant, to which the place of a row's counters is
            added, so that one bincount counts for all rows.
        b: columns; the last row holds ones.
        bins: all values of a b are integers in 0..bins - 1.
        pairs: number of values held at once.

    Shapes:   a (Q, F), b (F, N) float32 -> (Q, bins) int64.
    Returns:  counts; exact, since all sums are multiples of ½ far below 2^23.
    Raises:   nothing.
    Source:   this package.  Differs: no.
    """
    count, width = len(a), bins
    fused = a.device.type == "cpu" and _products_are_exact()
    joint = fused and count > 1 and bins**2 <= min(_JOINT_CELLS, b.shape[1] // 2)
    if joint:
        a = torch.cat([a, a[-1:]]) if count % 2 else a
        a, width = a[0::2] * bins + a[1::2], bins**2
    if width > 2**22:
        a, b = a.double(), b.double()
    rows = max(min(pairs // max(b.shape[1], 1), _TABLE_CELLS // width), 1)
    tables = []
    # One buffer for all blocks: with fresh memory for each, two threads took 1.3 times
    # as long.
    buffer = torch.empty(min(rows, len(a)) * b.shape[1], dtype=torch.int32, device=a.device)
    products = torch.empty_like(buffer, dtype=a.dtype)
    for block in a.split(rows):
        size = len(block) * b.shape[1]
        cells = buffer[:size].copy_(_cells(block, b, width, fused, products[:size]))
        found = torch.bincount(cells, minlength=len(block) * width)
        found = found.view(-1, bins, bins if joint else 1)
        if joint:
            found = torch.stack([found.sum(2), found.sum(1)], 1)
        tables.append(found.view(-1, bins))
    return torch.cat(tables)[:count] if tables else a.new_zeros(0, bins).long()


def _cells(a: Tensor, b: Tensor, width: int, fused: bool, out: Tensor) -> Tensor:
    """Values of a block, each row's moved to its own counters; written to `out`."""
    place = torch.arange(len(a), device=a.device, dtype=a.dtype) * width
    constant = (a[:, -1] + place)[:, None]
    table = out.view(len(a), b.shape[1])
    with torch.autocast(a.device.type, enabled=False), torch.no_grad():
        if fused:
            torch.mm(torch.cat([a[:, :-1], constant], 1), b, out=table)
        else:
            # Small integers stay exact where a product rounds its inputs (TF32, bfloat16).
            torch.mm(a[:, :-1], b[:-1], out=table)
            table += constant
    return out


def _products_are_exact() -> bool:
    """Whether float32 products keep float32: settings of torch may round their inputs."""
    odd = torch.full((64, 64), 2.0**20 + 1)
    with torch.autocast("cpu", enabled=False):
        return bool((odd @ torch.eye(64) == odd).all())


def distance(q: Tensor, r: Tensor) -> Tensor:
    """Distances (Q, N) in bits, as floats.

    Args:
        q: float codes.
        r: float codes.
    """
    # Half precision would be wrong from 2,049 bits on, so autocast must not reach this.
    with torch.autocast(q.device.type, enabled=False):
        return (q @ r.T).sub_(q.shape[1]).mul_(-0.5)
