import faiss
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pml_nmlayer.codes import pack_codes
from pml_nmlayer.retrieval import HashIndex

from .. import naive
from .hash_index_cases import NONE, filled, pairs, random_codes, shuffled_ids

KINDS = ["flat", "ivf", "hnsw", "multihash"]
SMALL = {"ivf": {"nlist": 4, "nprobe": 2}}


def flat_like_loops(codes, ids, queries, k):
    index = filled("flat", codes, ids)
    distances, found = index.search(queries, k)
    assert distances.dtype is torch.int32
    assert found.dtype is torch.int64
    expected = naive.hash_index_search(
        queries.tolist(), codes.tolist(), torch.as_tensor(ids).tolist(), k
    )
    assert pairs(distances, found) == expected


@given(
    bits=st.integers(1, 130),
    n=st.integers(1, 40),
    k=st.integers(1, 45),
    distinct=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_flat_equals_loops_for_any_length(bits, n, k, distinct, seed):
    codes = random_codes(distinct, bits, seed)[torch.arange(n) % distinct]
    flat_like_loops(codes, shuffled_ids(n, seed), random_codes(3, bits, seed + 1), k)


def base_and_one_bit_off(n, bits):
    codes = torch.ones(n, bits, dtype=torch.int64)
    codes[torch.arange(n), torch.arange(n) % bits] = -1
    return codes


@pytest.mark.parametrize("k", [1, 7, 299, 300])
@pytest.mark.parametrize(
    "codes",
    [
        torch.ones(300, 20, dtype=torch.int64),
        base_and_one_bit_off(300, 20),
        random_codes(300, 20),
        random_codes(300, 3),
        torch.cat([-torch.ones(150, 20), torch.ones(150, 20)]).long(),
    ],
    ids=["all_equal", "one_bit_off", "random", "many_ties", "sorted_by_class"],
)
@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_flat_is_exact_on_adversarial_codes(codes, k, order):
    ids = {
        "ascending": torch.arange(300),
        "descending": torch.arange(300).flip(0),
        "shuffled": shuffled_ids(300),
    }[order]
    queries = torch.cat([torch.ones(1, codes.shape[1]).long(), codes[:2]])
    flat_like_loops(codes, ids, queries, k)


def test_the_choice_within_a_cut_tie_is_not_left_to_faiss(monkeypatch):
    """A faiss that returns the largest positions of the tie at the k-th distance."""

    def contrary(queries, codes, k):
        distances, positions = faiss_knn(queries, codes, len(codes))
        for row in range(len(queries)):
            tied = np.flatnonzero(distances[row] == distances[row, k - 1])
            positions[row, tied] = positions[row, tied][::-1].copy()
        return distances[:, :k].copy(), positions[:, :k].copy()

    faiss_knn = faiss.knn_hamming
    monkeypatch.setattr(faiss, "knn_hamming", contrary)
    monkeypatch.setattr("pml_nmlayer.retrieval.exact._FIRST_BLOCK", 16)  # several blocks
    codes = random_codes(200, 8)
    for k in (1, 5, 50, 200):
        flat_like_loops(codes, shuffled_ids(200), random_codes(7, 8, seed=1), k)


@pytest.mark.parametrize("limit", [2**22, 64])
def test_range_search_is_inclusive_and_exact(monkeypatch, limit):
    monkeypatch.setattr("pml_nmlayer.retrieval.exact._CALL_PAIRS", limit)
    codes, ids, queries = random_codes(200, 12), shuffled_ids(200), random_codes(40, 12, 1)
    index = filled("flat", codes, ids)
    expected = naive.hash_index_search(
        queries.tolist(), codes.tolist(), ids.tolist(), len(codes)
    )
    for radius in (0, 2, 12, 99):
        distances, found = index.range_search(queries, radius)
        for d, i, ranked in zip(distances, found, expected, strict=True):
            assert d.dtype is torch.int32
            assert list(zip(d.tolist(), i.tolist(), strict=True)) == [
                pair for pair in ranked if pair[0] <= radius
            ]


def test_a_million_codes():
    packed = np.random.default_rng(0).integers(0, 256, (1_000_000, 8), dtype=np.uint8)
    ids = np.arange(1_000_000)[::-1].copy()
    index = HashIndex(64)
    for part in range(4):
        rows = slice(part * 250_000, (part + 1) * 250_000)
        index.add(packed[rows], ids[rows])
    assert len(index) == 1_000_000
    queries = packed[[0, 999_999]].copy()
    queries[1] ^= 5
    distances, found = index.search(queries, 50)
    whole = packed.view("<u8").ravel().tolist()
    for query, ds, names in zip(queries, distances.tolist(), found.tolist(), strict=True):
        number = int(query.view("<u8")[0])
        ranked = sorted(
            ((number ^ code).bit_count(), 999_999 - row) for row, code in enumerate(whole)
        )
        assert list(zip(ds, names, strict=True)) == ranked[:50]


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_of_codes_is_the_same(kind):
    codes = random_codes(64, 12)
    forms = [
        codes,
        codes.float(),
        codes.half(),
        codes.numpy(),
        codes.numpy().astype(np.int8),
        pack_codes(codes),
        pack_codes(codes).numpy(),
        np.asfortranarray(codes.numpy().astype(np.float64)),
    ]
    forms[3].flags.writeable = False
    reference = filled(kind, codes, **SMALL.get(kind, {})).search(codes, 5)
    for form in forms:
        index = HashIndex(12, kind, **SMALL.get(kind, {}))
        if kind == "ivf":
            index.train(form)
        index.add(form)
        for result, expected in zip(index.search(form, 5), reference, strict=True):
            torch.testing.assert_close(result, expected, rtol=0, atol=0)


def test_the_index_keeps_its_own_copy():
    packed, ids = pack_codes(random_codes(5, 64)).numpy(), np.arange(5)
    index = HashIndex(64)
    index.add(packed, ids)
    queries = packed.copy()
    packed[:], ids[:] = 0, 9
    assert index.search(queries, 1)[0].tolist() == [[0]] * 5
    assert index.ids.tolist() == [0, 1, 2, 3, 4]
    index.ids[0] = 7
    assert index.ids.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_adding_in_parts_and_default_ids(kind):
    codes = random_codes(100, 32)
    index = HashIndex(32, kind, **SMALL.get(kind, {}))
    if kind == "ivf":
        index.train(codes)
    index.add(codes[:0])
    index.add(codes[:30])
    index.add(codes[30:31], [500])
    index.add(codes[31:40])
    index.add(codes[40:], torch.arange(100, 160))
    expected = [*range(30), *range(100, 160), *range(500, 510)]
    assert index.ids.tolist() == expected
    assert len(index) == 100
    distances, ids = index.search(codes, 1)
    assert not distances.any()
    assert ids[30:32].flatten().tolist() == [500, 501]
    assert ids[40:].flatten().tolist() == list(range(100, 160))


@pytest.mark.parametrize("kind", KINDS)
def test_more_neighbours_than_codes(kind):
    codes = random_codes(8, 16)
    index = filled(kind, codes, **SMALL.get(kind, {}))
    distances, ids = index.search(codes, 20)
    assert distances.shape == ids.shape == (8, 20)
    assert (ids[:, 8:] == -1).all()
    assert torch.equal(distances == NONE, ids == -1)
    if kind == "flat":
        assert (ids[:, :8].sort(1).values == torch.arange(8)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_empty_index_and_no_queries(kind):
    index = HashIndex(16, kind, **SMALL.get(kind, {}))
    if kind == "ivf":
        index.train(random_codes(50, 16))
    queries = random_codes(3, 16)
    distances, ids = index.search(queries, 2)
    assert (distances == NONE).all()
    assert ids.tolist() == [[-1, -1]] * 3
    assert [len(i) for i in index.range_search(queries, 16)[1]] == [0, 0, 0]
    soft, ids = index.search_asymmetric(queries.float(), 2)
    assert soft.isinf().all()
    assert ids.tolist() == [[-1, -1]] * 3

    index.add(queries)
    for result in index.search(queries[:0], 2):
        assert result.shape == (0, 2)
    assert index.range_search(queries[:0], 2) == ([], [])
    assert index.search_asymmetric(queries[:0].float(), 2)[1].shape == (0, 2)


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_remove(kind):
    codes, ids = random_codes(60, 16), shuffled_ids(60)
    index = filled(kind, codes, ids, **({"nlist": 4, "nprobe": 4} if kind == "ivf" else {}))
    index.remove(ids[10:40])
    index.remove([])
    kept = torch.cat([ids[:10], ids[40:]])
    assert index.ids.tolist() == sorted(kept.tolist())
    left = torch.cat([codes[:10], codes[40:]])
    expected = naive.hash_index_search(codes.tolist(), left.tolist(), kept.tolist(), 30)
    assert pairs(*index.search(codes, 30)) == expected

    index.add(codes[10:12], ids[10:12])  # a removed id can come back
    index.add(codes[12:13])  # but it is not given again by itself
    assert index.ids.max() == ids.max() + 1
    index.remove(index.ids)
    assert len(index) == 0
    assert index.search(codes[:1], 1)[1].tolist() == [[-1]]
    index.add(codes[:3], [5, 3, 4])
    assert index.search(codes[:3], 1)[1].flatten().tolist() == [5, 3, 4]


@pytest.mark.parametrize("kind", ["hnsw", "multihash"])
def test_kinds_that_cannot_remove(kind):
    index = filled(kind, random_codes(9, 16))
    with pytest.raises(NotImplementedError, match=f"{kind}.*flat"):
        index.remove([1])
    assert len(index) == 9


@pytest.mark.parametrize("cells", [2**22, 64])
def test_asymmetric_search(monkeypatch, cells):
    monkeypatch.setattr("pml_nmlayer.retrieval.asymmetric._CELLS", cells)
    codes, ids = random_codes(80, 12), shuffled_ids(80)
    u = torch.tanh(torch.randn(6, 12))
    u[0] = torch.sign(u[0])  # equal to the Hamming distance
    u[1, 3] = 0.0
    index = filled("flat", codes, ids)
    a, found = index.search_asymmetric(u, 7, candidates=80)
    assert a.dtype is torch.float64
    expected = naive.hash_index_asymmetric(u.tolist(), codes.tolist(), ids.tolist(), 7)
    for row, ranked in enumerate(expected):
        assert found[row].tolist() == [i for _, i in ranked]
        want = torch.tensor([d for d, _ in ranked], dtype=torch.float64)
        torch.testing.assert_close(a[row], want, rtol=1e-12, atol=1e-12)
    assert a[0].tolist() == index.search(codes[:1] * 0 + u[:1].long(), 7)[0][0].tolist()
    assert torch.equal(index.search_asymmetric(u.numpy(), 7, candidates=80)[1], found)

    few, _ = index.search_asymmetric(u, 7)  # 70 of 80 candidates
    assert (few >= a - 1e-12).all()
    beyond = index.search_asymmetric(u, 100)
    assert (beyond[1][:, 80:] == -1).all()
    assert beyond[0][:, 80:].isinf().all()


def packed(n=4, bits=12):
    return pack_codes(random_codes(n, bits))


def twelve(kind="flat", n=10, **options):
    return filled(kind, random_codes(n, 12), **options)


ERRORS = {
    "other length": (
        lambda: twelve().search(random_codes(1, 13), 1),
        "13 bits, expected 12",
    ),
    "add other length": (lambda: twelve().add(random_codes(1, 11)), "11 bits, expected 12"),
    "packed length": (lambda: twelve().search(packed(bits=24), 1), r"\(N, 2\), got shape"),
    "bits beyond": (lambda: twelve().search(packed(bits=16), 1), "beyond the first 12"),
    "one code": (lambda: twelve().search(random_codes(1, 12)[0], 1), r"shape \(N, K\)"),
    "nan": (lambda: twelve().search(torch.full((1, 12), torch.nan), 1), "-1 and \\+1 only"),
    "reals": (lambda: twelve().search(torch.rand(1, 12), 1), "binarize"),
    "k": (lambda: twelve().search(packed(), 0), "k must be at least 1, got 0"),
    "radius": (lambda: twelve().range_search(packed(), -1), "radius must be at least 0"),
    "bits": (lambda: HashIndex(0), "bits must be at least 1, got 0"),
    "kind": (lambda: HashIndex(8, "tree"), "flat, ivf, hnsw, multihash; got 'tree'"),
    "option": (lambda: HashIndex(8, "hnsw", nlist=3), "no option nlist; it has links"),
    "flat option": (lambda: HashIndex(8, nprobe=3), "no option nprobe; it has none"),
    "nprobe": (lambda: HashIndex(8, "ivf", nlist=3, nprobe=4), "exceed nlist=3, got 4"),
    "hashes": (lambda: HashIndex(8, "multihash", hash_bits=3), r"8 bits, got 4 \* 3"),
    "few bits": (lambda: HashIndex(3, "multihash"), r"3 bits, got 4 \* 1"),
    "long hash": (
        lambda: HashIndex(99, "multihash", nhash=1, hash_bits=33),
        "exceed 32, got 33",
    ),
    "nflip": (lambda: HashIndex(8, "multihash", nflip=3), "exceed hash_bits=2, got 3"),
    "duplicates": (lambda: twelve().add(packed(3), [50, 51, 50]), "distinct; repeated: 50"),
    "present": (lambda: twelve().add(packed(2), [11, 3]), "1 ids are in .* already: 3;"),
    "negative": (lambda: twelve().add(packed(2), [-1, 20]), "not be negative"),
    "count": (lambda: twelve().add(packed(2), [20]), "2 codes, 1 ids"),
    "id shape": (lambda: twelve().add(packed(2), [[20, 21]]), r"\(N,\), got \(1, 2\)"),
    "large id": (lambda: twelve().add(packed(1), np.array([2**63])), "fit into int64"),
    "absent": (lambda: twelve().remove([3, 77]), "1 ids are not in the index: 77"),
    "remove twice": (lambda: twelve().remove([3, 3]), "distinct; repeated: 3"),
    "untrained add": (lambda: HashIndex(12, "ivf").add(packed()), "must be trained first"),
    "untrained search": (lambda: HashIndex(12, "ivf").search(packed(), 1), "trained first"),
    "untrained range": (lambda: HashIndex(12, "ivf").range_search(packed(), 1), "trained"),
    "untrained save": (lambda: HashIndex(12, "ivf").save("unused"), "trained first"),
    "too few": (lambda: HashIndex(12, "ivf").train(packed()), r"256 cells .* got 4"),
    "train flat": (lambda: HashIndex(12).train(packed()), "needs no training"),
    "train late": (
        lambda: twelve("ivf", nlist=2, nprobe=1).train(packed()),
        "before adding codes; the index holds 10",
    ),
    "tune flat": (lambda: twelve().tune(3), "nothing to tune"),
    "tune range": (lambda: twelve("ivf", nlist=2, nprobe=1).tune(3), "exceed nlist=2"),
    "nan query": (
        lambda: twelve().search_asymmetric(torch.full((1, 12), torch.nan), 1),
        "finite, got 12 NaN",
    ),
    "inf query": (
        lambda: twelve().search_asymmetric(torch.full((1, 12), torch.inf), 1),
        "finite, got 12",
    ),
    "query shape": (lambda: twelve().search_asymmetric(torch.ones(1, 9), 1), r"\(1, 9\)"),
    "candidates": (
        lambda: twelve().search_asymmetric(torch.ones(1, 12), 5, candidates=4),
        "candidates must be at least 5, got 4",
    ),
}
TYPE_ERRORS = {
    "list": (lambda: twelve().search([[1] * 12], 1), "tensor or an array .* got list"),
    "bool": (lambda: twelve().search(torch.ones(1, 12).bool(), 1), "got torch.bool"),
    "complex": (
        lambda: twelve().search(torch.ones(1, 12).cfloat(), 1),
        "got torch.complex",
    ),
    "numpy bool": (lambda: twelve().search(np.ones((1, 12), bool), 1), "got bool"),
    "uint16": (lambda: twelve().search(np.ones((1, 12), np.uint16), 1), "got uint16"),
    "float k": (
        lambda: twelve().search(packed(), 1.0),
        "k must be a whole number, got 1.0",
    ),
    "bool k": (lambda: twelve().search(packed(), True), "whole number, got True"),
    "float radius": (
        lambda: twelve().range_search(packed(), 1.5),
        "radius must be a whole",
    ),
    "float ids": (lambda: twelve().add(packed(1), [2.0]), "whole numbers .* got float64"),
    "float option": (lambda: HashIndex(8, "ivf", nlist=2.5), "nlist must be a whole"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", TYPE_ERRORS)
def test_type_errors(name):
    call, message = TYPE_ERRORS[name]
    with pytest.raises(TypeError, match=message):
        call()


def test_a_refused_add_changes_nothing():
    index = twelve()
    with pytest.raises(ValueError, match="already"):
        index.add(packed(2), [100, 3])
    assert len(index) == 10
    index.add(packed(1))
    assert index.ids.tolist() == list(range(11))


def test_repr_and_options():
    index = HashIndex(64, "multihash", nflip=0)
    assert index.options == {"nhash": 4, "hash_bits": 16, "nflip": 0}
    index.options["nflip"] = 9
    assert index.options["nflip"] == 0
    assert "kind='multihash', nhash=4, hash_bits=16, nflip=0), n=0" in repr(index)
