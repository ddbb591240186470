"""Strings as ids, allowed ids, upsert, merge, clear, codes by id; pickles and copies."""

import copy
import pickle

import numpy as np
import pandas
import pytest
import torch

from pml_nmlayer.codes import pack_codes, unpack_codes
from pml_nmlayer.retrieval import HashIndex

from .hash_index_cases import NONE, filled, random_codes, shuffled_ids

KINDS = {
    "flat": {},
    "ivf": {"nlist": 4, "nprobe": 4},
    "hnsw": {"links": 8},
    "multihash": {"nhash": 2, "hash_bits": 4},
}
NAMES = [f"photo-{i}.jpg" for i in range(60)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [list, np.array, pandas.Series])
def test_strings_as_ids(kind, form, tmp_path):
    codes = random_codes(60, 16)
    index = filled(kind, codes, form(NAMES), **KINDS[kind])
    plain = filled(kind, codes, **KINDS[kind])
    assert index.ids.tolist() == NAMES
    index.save(tmp_path / "index")
    for each in (index, HashIndex.load(tmp_path / "index"), copy.deepcopy(index)):
        distances, ids = each.search(codes[:5], 70)
        expected = plain.search(codes[:5], 70)
        assert torch.equal(distances, expected[0])
        assert ids.tolist() == [
            [None if i < 0 else NAMES[i] for i in row] for row in expected[1].tolist()
        ]
        for ours, theirs in zip(
            each.range_search(codes[:5], 4)[1],
            plain.range_search(codes[:5], 4)[1],
            strict=True,
        ):
            assert ours.tolist() == [NAMES[i] for i in theirs.tolist()]
        _, ids = each.search_asymmetric(codes[:5].float(), 1, allowed=NAMES[:5])
        assert [row[0] for row in ids.tolist()] == NAMES[:5]
        assert torch.equal(each.codes_of(NAMES[7:4:-1]), pack_codes(codes[[7, 6, 5]]))
    if kind in ("flat", "ivf"):
        index.remove(NAMES[:58])
        assert index.ids.tolist() == NAMES[58:]
        index.add(codes[:1], [NAMES[0]])
        assert index.search(codes[:1], 1)[1].tolist() == [[NAMES[0]]]
    assert index.search(codes[:0], 3)[1].shape == (0, 3)
    assert index.range_search(codes[:0], 3) == ([], [])


@pytest.mark.parametrize("kind", KINDS)
def test_search_among_allowed_ids_is_exact(kind):
    codes, ids, queries = random_codes(300, 16), shuffled_ids(300), random_codes(9, 16, 1)
    index = filled(kind, codes, ids, **KINDS[kind])
    allowed = torch.cat([ids[40:90], ids[40:50]])
    expected = filled("flat", codes[40:90], ids[40:90])
    for name, value in (("search", 60), ("range_search", 5)):
        ours = getattr(index, name)(queries, value, allowed=allowed)
        theirs = getattr(expected, name)(queries, value)
        for a, b in zip(ours, theirs, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    u = queries * torch.rand(9, 16)
    a, found = index.search_asymmetric(u, 3, candidates=50, allowed=allowed)
    b, truth = expected.search_asymmetric(u, 3, candidates=50)
    assert torch.equal(a, b)
    assert torch.equal(found, truth)
    distances, found = index.search(queries, 2, allowed=[])
    assert (distances == NONE).all()
    assert (found == -1).all()


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_upsert(kind):
    codes, ids = random_codes(60, 16), shuffled_ids(60)
    index = filled(kind, codes, ids, **KINDS[kind])
    new = random_codes(20, 16, seed=3)
    index.upsert(new, torch.cat([ids[50:], torch.arange(10)]))
    assert len(index) == 70
    assert torch.equal(index.codes_of(ids[50:]), pack_codes(new[:10]))
    assert torch.equal(index.codes_of(range(10)), pack_codes(new[10:]))
    expected = filled(
        "flat", torch.cat([codes[:50], new]), torch.cat([ids, torch.arange(10)])
    )
    for a, b in zip(
        index.range_search(codes, 16), expected.range_search(codes, 16), strict=True
    ):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", ["hnsw", "multihash"])
def test_upsert_of_new_ids_alone_where_nothing_can_be_replaced(kind):
    codes = random_codes(20, 16)
    index = filled(kind, codes[:10], **KINDS[kind])
    index.upsert(codes[10:], range(10, 20))
    with pytest.raises(NotImplementedError, match=f"{kind}.* cannot replace .*flat"):
        index.upsert(codes[:2], [19, 20])
    assert index.ids.tolist() == list(range(20))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other_kind", KINDS)
def test_merge(kind, other_kind):
    codes = random_codes(60, 20)
    ids = shuffled_ids(60)
    index = filled(kind, codes[:30], ids[:30], **KINDS[kind])
    other = filled(other_kind, codes[30:], ids[30:], **KINDS[other_kind])
    index.merge(other)
    assert len(other) == 30
    assert index.ids.tolist() == sorted(ids.tolist())
    assert torch.equal(unpack_codes(index.codes_of(ids), 20), codes.float())
    with pytest.raises(ValueError, match="30 ids are in the index already"):
        index.merge(other)
    index.merge(HashIndex(20))
    assert len(index) == 60


@pytest.mark.parametrize("kind", KINDS)
def test_clear(kind):
    codes = random_codes(60, 16)
    index = filled(kind, codes, NAMES, **KINDS[kind])
    index.clear()
    assert len(index) == 0
    assert index.search(codes[:1], 1)[1].tolist() == [[-1]]
    index.add(codes)  # numbers now, from 0 on; an ivf is still trained
    assert index.ids.tolist() == list(range(60))
    assert index.search(codes, 1)[0].sum() == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "again",
    [lambda x: pickle.loads(pickle.dumps(x)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_pickles_and_copies(kind, again):
    codes, ids = random_codes(60, 16), shuffled_ids(60)
    index = filled(kind, codes, ids, **KINDS[kind])
    index.tune(index.options["nflip"] + 1 if kind == "multihash" else 3) if (
        kind != "flat"
    ) else None
    other = again(index)
    assert repr(other) == repr(index)
    for a, b in zip(other.search(codes, 5), index.search(codes, 5), strict=True):
        assert torch.equal(a, b)
    other.add(codes[:1])
    assert other.ids.max() == ids.max() + 1
    assert (len(index), len(other)) == (60, 61)


def test_a_copy_of_a_memory_mapped_index_is_in_memory(tmp_path):
    index = filled("flat", random_codes(9, 16))
    index.save(tmp_path / "index")
    mapped = HashIndex.load(tmp_path / "index", mmap=True)
    other = copy.deepcopy(mapped)
    other.add(random_codes(1, 16))
    assert (len(mapped), len(other)) == (9, 10)
