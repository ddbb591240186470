import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pml_nmlayer.hamming as hamming_module
from pml_nmlayer.codes import pack_codes
from pml_nmlayer.hamming import grade_histograms, hamming_distance, hamming_histograms
from tests import naive


def random_codes(n, bits, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (n, bits), generator=generator).float() * 2 - 1


def random_labels(n, kind, seed=0):
    generator = torch.Generator().manual_seed(seed + 1)
    shape = (n,) if kind == "class ids" else (n, 3)
    return torch.randint(0, 2, shape, generator=generator)


@given(st.integers(1, 130), st.integers(0, 4), st.integers(0, 4), st.integers(0, 999))
def test_distance_equals_loop_packed_or_not(bits, n_query, n_database, seed):
    q, r = random_codes(n_query, bits, seed), random_codes(n_database, bits, seed + 1)
    expected = [[naive.hamming(a, b) for b in r.tolist()] for a in q.tolist()]
    distance = hamming_distance(q, r)
    assert distance.dtype == torch.int32
    assert distance.shape == (n_query, n_database)
    assert distance.tolist() == expected
    assert torch.equal(hamming_distance(pack_codes(q), pack_codes(r), bits=bits), distance)


@given(st.integers(1, 64), st.integers(0, 999))
def test_distance_is_a_metric(bits, seed):
    x = random_codes(6, bits, seed)
    d = hamming_distance(x, x)
    assert torch.equal(d, d.T)
    assert not d.diag().any()
    assert (d[:, :, None] + d[None, :, :] >= d[:, None, :]).all()
    assert (hamming_distance(x, -x).diag() == bits).all()


@pytest.mark.parametrize("kind", ["class ids", "multi-hot"])
@pytest.mark.parametrize("include_query", [False, True])
@pytest.mark.parametrize("bits", [12, 13])
def test_histograms_equal_loop(kind, include_query, bits, monkeypatch):
    # Small blocks, so that every edge between blocks is crossed.
    monkeypatch.setattr(hamming_module, "_BLOCK_PAIRS", 20)
    monkeypatch.setattr(hamming_module, "_BLOCK_REFERENCES", 7)
    r, r_labels = random_codes(24, bits, 1), random_labels(24, kind, 1)
    if include_query:
        q, q_labels = r[:9], r_labels[:9]
    else:
        q, q_labels = random_codes(9, bits, 2), random_labels(9, kind, 2)
    args = q.tolist(), q_labels.tolist(), r.tolist(), r_labels.tolist()
    expected = naive.histograms(*args, include_query)
    items, hits = hamming_histograms(q, q_labels, r, r_labels, include_query)
    counts = grade_histograms(q, q_labels, r, r_labels, include_query)
    assert items.dtype == hits.dtype == torch.int64
    for i in range(9):
        for d in range(bits + 1):
            grades = expected[i][d]
            assert items[i, d] == len(grades)
            assert hits[i, d] == sum(1 for g in grades if g)
            for g in range(counts.shape[2]):
                assert counts[i, d, g] == grades.count(g)
    packed = pack_codes(q), q_labels, pack_codes(r), r_labels, include_query
    assert torch.equal(hamming_histograms(*packed, bits=bits)[1], hits)


def test_empty_sides():
    q, y = random_codes(3, 8), torch.tensor([0, 1, 0])
    items, hits = hamming_histograms(q[:0], y[:0], q, y)
    assert items.shape == hits.shape == (0, 9)
    items, hits = hamming_histograms(q, y, q[:0], y[:0])
    assert not items.any()
    assert not hits.any()


def test_autocast_does_not_reach_the_distances():
    # 4 bits in 4,096 differ: bfloat16 would round the inner product.
    q = torch.ones(1, 4096)
    r = q.clone()
    r[0, :3] = -1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert hamming_distance(q, r).item() == 3


CODES, LABELS = random_codes(4, 8), torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hamming_distance(CODES, CODES[:, :5]), "8 bits and database codes 5"),
        (lambda: hamming_distance(CODES * 0.5, CODES), "query codes must hold"),
        (lambda: hamming_distance(CODES * torch.nan, CODES), "query codes must hold"),
        (lambda: hamming_distance(pack_codes(CODES), pack_codes(CODES)), "pass bits="),
        (lambda: hamming_distance(CODES, CODES, bits=9), "bits=9"),
        (lambda: hamming_histograms(CODES, LABELS[:3], CODES, LABELS), "3 query labels"),
        (lambda: hamming_histograms(CODES, LABELS, CODES, LABELS[:3]), "3 database labels"),
        (lambda: hamming_histograms(CODES, LABELS, CODES, LABELS[:, None]), "of one kind"),
        (
            lambda: hamming_histograms(CODES, LABELS, -CODES, LABELS, True),
            "codes of the database are not",
        ),
        (
            lambda: hamming_histograms(CODES, LABELS, CODES, 1 - LABELS, True),
            "labels of the database are not",
        ),
        (
            lambda: hamming_histograms(CODES, LABELS, CODES[:2], LABELS[:2], True),
            "codes of the database are not",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
