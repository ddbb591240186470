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

from .products import Product, rounded_product

# Queries share a number only where their joint table is small and well filled: of two
# queries up to 127 values each (at 256 bits two in one were slower), of three up to 40.
_JOINT_CELLS = {3: 2**16, 2: 2**14}
_FILLED = {3: 0.75, 2: 0.5}  # cells an item
_TABLE_CELLS = (
    2**16
)  # counters of a block of queries: 512 KB stay in the second-level cache
_ROWS = 64  # with fewer at once a product takes longer
_NUMBERS = 2**18


def value_counts(a: Tensor, b: Tensor, bins: int, pairs: int, product: Product) -> Tensor:
    r"""Count the values of each row of a product of integers, without keeping it.

    Formula:  counts_iv = |{n: (a b)_in = v}|.

    Two or three rows share a number, as (bins a_i + a_j) b, if their joint histogram is
    small: one product and one count then serve all.

    Args:
        a: rows; the last column is a constant, to which the place of a row's counters is
            added, so that one bincount counts for several rows.
        b: columns; the last row holds ones.
        bins: all values of a b are integers in 0..bins - 1.
        pairs: number of values held at once.
        product: from `products`.

    Shapes:   a (Q, F), b (F, N) float32 -> (Q, bins) int64.
    Returns:  counts; exact, since all sums are multiples of ¼ below 2^22.
    Raises:   nothing.
    Source:   this package.  Differs: no.
    """
    count, items = len(a), b.shape[1]
    if not count or not items:
        return torch.zeros(count, bins, dtype=torch.int64, device=a.device)
    joint = _rows_in_a_number(count, bins, items) if product is not rounded_product else 1
    a = torch.cat([a, a[-1:].expand(-count % joint, -1)]).view(-1, joint, a.shape[1])
    weights = [float(bins) ** place for place in reversed(range(joint))]
    a = (a * a.new_tensor(weights)[:, None]).sum(1)
    width = bins**joint
    if width > 2**22:
        a, b = a.double(), b.double()
    rows, cells_at_once = pairs // items, _TABLE_CELLS
    if a.device.type == "cpu":
        rows = min(rows, max(_ROWS, _NUMBERS // items))
    else:
        cells_at_once = pairs  # a device waits for each count, and has no such cache
    rows = max(min(rows, len(a)), 1)
    few = max(min(rows, cells_at_once // width), 1)
    place = torch.arange(len(a), device=a.device, dtype=a.dtype) % rows % few * width
    a[:, -1] += place
    # With fresh memory for each block, two threads took 1.3 times as long.
    products = torch.empty(rows, items, dtype=a.dtype, device=a.device)
    cells = torch.empty(few * items, dtype=torch.int32, device=a.device)
    tables = []
    for block in a.split(rows):
        table = products[: len(block)]
        product(block, b, table)
        for part in table.split(few):
            some = cells[: part.numel()]
            some.view_as(part).copy_(part)
            found = torch.bincount(some, minlength=len(part) * width)
            tables.append(_of_each_row(found, bins, joint))
    return torch.cat(tables)[:count]


def _rows_in_a_number(count: int, bins: int, items: int) -> int:
    for rows, most in _JOINT_CELLS.items():
        if count >= rows and bins**rows <= min(most, _FILLED[rows] * items):
            return rows
    return 1


def _of_each_row(found: Tensor, bins: int, joint: int) -> Tensor:
    """Histograms of the rows, from joint ones that follow each other."""
    if joint == 1:
        return found.view(-1, bins)
    if joint == 2:
        found = found.view(-1, bins, bins)
        return torch.stack([found.sum(2), found.sum(1)], 1).flatten(0, 1)
    found = found.view(-1, bins, bins, bins)
    first_two = found.sum(3)
    last = found.flatten(1, 2).sum(1)
    return torch.stack([first_two.sum(2), first_two.sum(1), last], 1).flatten(0, 1)


def distance(q: Tensor, r: Tensor) -> Tensor:
    """Distances (Q, N) in bits, as floats.

    Args:
        q: float codes.
        r: float codes.
    """
    # Half precision would be wrong from 2,049 bits on, so autocast must not reach this.
    with torch.autocast(q.device.type, enabled=False):
        return (q @ r.T).sub_(q.shape[1]).mul_(-0.5)
