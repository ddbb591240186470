"""Count pairs where labels are class ids: fewer pairs, and more of them in one number.

Three facts make counting cheap, and none makes it less exact:

- Hits are those of one segment, once the database is sorted by class. So nothing has to be
  carried along with a pair.
- Whether two codes differ in an even number of bits follows from their own numbers of ones.
  Where items are divided by that, a distance has K / 2 + 1 values instead of K + 1. Then
  three queries of 64 bits share a number instead of two.
- Items with the same code and class are counted once. If there are m of them, they count in
  each set whose power of two is part of m. The sets never hold more items than there were.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..codes.packing import pack_codes
from .blocks import Run
from .counting import value_counts
from .pair_counter import PairCounter, slices

# Shorter runs of items are not worth a division: each takes a call of its own.
_LEAST_ITEMS = 2**14
_LEAST_OF_CLASS = 2**8
_LEAST_QUERIES = 16
_SAMPLE = 2**12
_FEW = 0.75  # of a sample: share of distinct codes below which equal ones are joined


class Items(NamedTuple):
    """Some items, by number, in the order of their classes.

    Fields:
        order: numbers.
        ids: their classes, sorted.
        weight: how often each counts.
        parity: of the number of ones, 0 or 1; None where it was not asked for.
    """

    order: Tensor
    ids: Tensor
    weight: int = 1
    parity: int | None = None


def class_counts(counter: PairCounter, rows: slice, run: Run) -> tuple[Tensor, Tensor]:
    """Items without asking for classes; then hits, one class of the database at a time.

    Hits cost another 1 / C of the pairs for C equal classes. To carry the answer along
    with every pair would cost a comparison a pair, and twice as many counters.

    Args:
        counter: of the evaluation.
        rows: of the queries.
        run: from `threads`.

    Returns:
        items and hits, (q, K + 1) each.
    """
    packed = _packed(counter, counter.q, rows)
    labels = _class_ids(counter.labels[rows])
    codes = counter.floats(counter.q, rows)
    inverse = None
    if len(codes) >= _LEAST_QUERIES and _has_equal(packed, labels):
        first, inverse, _ = _distinct(_keys(packed, labels))
        codes, labels, packed = codes[first], labels[first], packed[first]
    items, hits = counter.zeros(len(codes)), counter.zeros(len(codes))
    classes, member = labels.unique(return_inverse=True)
    mine = member.argsort().split(torch.bincount(member).tolist())
    odd = _parity(packed)
    for span in slices(0, len(counter.r), counter.blocks.sorted):
        for part in _divided(counter, span, len(codes), len(classes)):
            a, differs = _rows(codes, odd, part.parity, counter.bits)
            for block in part.order.split(counter.blocks.wide):
                b = counter.columns(block)
                found = _by_threads(counter, a, b, part.parity, run)
                items += part.weight * _placed(found, differs, counter.bits)
            start = torch.searchsorted(part.ids, classes).tolist()
            stop = torch.searchsorted(part.ids, classes, right=True).tolist()
            segments = [part.order[i:j] for i, j in zip(start, stop, strict=True)]
            kept = [k for k, segment in enumerate(segments) if len(segment)]
            each = run(
                lambda k, a=a, segments=segments, parity=part.parity: _count_items(
                    counter, a[mine[k]], segments[k], parity
                ),
                kept,
            )
            for k, found in zip(kept, each, strict=True):
                whose = None if differs is None else differs[mine[k]]
                hits[mine[k]] += part.weight * _placed(found, whose, counter.bits)
    return (items, hits) if inverse is None else (items[inverse], hits[inverse])


def _divided(
    counter: PairCounter, span: slice, queries: int, classes: int
) -> Iterator[Items]:
    """Sort items by class; where that pays, join equal ones and divide them by parity."""
    ids = _class_ids(counter.ref_labels[span]).to(counter.q.device)
    if len(ids) < max(_LEAST_ITEMS, _LEAST_OF_CLASS * classes) or (
        queries < _LEAST_QUERIES
    ):
        ids, order = ids.sort()
        yield Items(order + span.start, ids)
        return
    packed = _packed(counter, counter.r, span).to(ids.device)
    times = None
    if _has_equal(packed, ids):
        first, _, times = _distinct(_keys(packed, ids))
        packed, ids = packed[first], ids[first]
    else:
        first = torch.arange(len(ids), device=ids.device)
    odd = _parity(packed)
    del packed
    ids, by_class = ids.sort()
    first, odd = first[by_class] + span.start, odd[by_class]
    times = None if times is None else times[by_class]
    most = 1 if times is None else int(times.max())
    for power in range(most.bit_length()):
        for parity in (0, 1):
            kept = odd == parity
            if times is not None:
                kept &= (times >> power) & 1 == 1
            if bool(kept.any()):
                yield Items(first[kept], ids[kept], 2**power, parity)


def _has_equal(packed: Tensor, ids: Tensor) -> bool:
    """Whether it pays to look for equal items, as a sample tells."""
    step = max(len(ids) // _SAMPLE, 1)
    sample = _keys(packed[::step], ids[::step])
    return len(sample.unique()) <= _FEW * len(sample)


def _keys(packed: Tensor, ids: Tensor) -> Tensor:
    """Give a number to each item, equal where both code and class are."""
    keys = ids.unique(return_inverse=True)[1]
    padded = torch.nn.functional.pad(packed, (0, -packed.shape[1] % 8))
    for word in padded.view(torch.int64).unbind(1):
        found, places = word.unique(return_inverse=True)
        keys = (keys * len(found) + places).unique(return_inverse=True)[1]
    return keys


def _distinct(keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """First place of each key, which one a place has, and how often each occurs."""
    found, inverse, times = keys.unique(return_inverse=True, return_counts=True)
    places = torch.arange(len(keys), device=keys.device)
    first = torch.full_like(found, len(keys)).scatter_reduce_(0, inverse, places, "amin")
    return first, inverse, times


def _packed(counter: PairCounter, codes: Tensor, rows: slice) -> Tensor:
    if codes.dtype == torch.uint8:
        return codes[rows]
    blocks = codes[rows].split(counter.blocks.references)
    parts = [pack_codes(block.float()) for block in blocks]
    return torch.cat(parts) if parts else pack_codes(codes[rows])


def _parity(packed: Tensor) -> Tensor:
    """Whether a code has an odd number of ones: 0 or 1 each."""
    folded = torch.zeros_like(packed[:, 0])
    for byte in packed.unbind(1):
        folded ^= byte
    for shift in (4, 2, 1):
        folded = folded ^ (folded >> shift)
    return (folded & 1).long()


def _rows(
    codes: Tensor, odd: Tensor, parity: int | None, bits: int
) -> tuple[Tensor, Tensor | None]:
    """Rows a such that a times a column is d; or (d - e) / 2, with e = d modulo 2."""
    constant = torch.full_like(codes[:, :1], bits / 2)
    if parity is None:
        return torch.cat([codes * -0.5, constant], 1), None
    differs = odd ^ parity
    constant = (constant - differs[:, None]) / 2
    return torch.cat([codes * -0.25, constant], 1), differs


def _placed(found: Tensor, differs: Tensor | None, bits: int) -> Tensor:
    """Counts (q, K + 1) of distances, from those of (d - e) / 2."""
    if differs is None:
        return found
    both = torch.stack([found * (1 - differs)[:, None], found * differs[:, None]], 2)
    return both.flatten(1)[:, : bits + 1]


def _by_threads(
    counter: PairCounter, a: Tensor, b: Tensor, parity: int | None, run: Run
) -> Tensor:
    """Each thread counts for its part of the queries."""
    size = max(-(-len(a) // counter.blocks.threads), 1)
    parts = run(lambda part: _count(counter, part, b, parity), a.split(size))
    return torch.cat([*parts])


def _count_items(
    counter: PairCounter, a: Tensor, items: Tensor, parity: int | None
) -> Tensor:
    counts = counter.zeros(len(a))[:, : _bins(counter, parity)]
    for block in items.split(counter.blocks.wide):
        counts += _count(counter, a, counter.columns(block), parity)
    return counts


def _bins(counter: PairCounter, parity: int | None) -> int:
    return counter.bits + 1 if parity is None else counter.bits // 2 + 1


def _count(counter: PairCounter, a: Tensor, b: Tensor, parity: int | None) -> Tensor:
    bins = _bins(counter, parity)
    return value_counts(a, b, bins, counter.blocks.wide_pairs, counter.blocks.product)


def _class_ids(labels: Tensor) -> Tensor:
    """One dtype for both sides, in which equal labels stay equal and others different."""
    return labels.double() if labels.is_floating_point() else labels.long()
