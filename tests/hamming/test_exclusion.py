"""Pairs that are left out, against loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pml_nmlayer.hamming.histograms as module
from pml_nmlayer.codes import pack_codes
from pml_nmlayer.hamming import grade_histograms, hamming_histograms
from pml_nmlayer.ranking import (
    conventional_average_precision,
    mean_average_precision,
    ndcg,
)
from tests import naive
from tests.hamming.test_hamming import random_codes, random_labels


def random_groups(count, seed):
    generator = torch.Generator().manual_seed(seed + 50)
    return torch.randint(-2, 3, (count,), generator=generator)


def random_mask(queries, items, seed):
    generator = torch.Generator().manual_seed(seed + 70)
    return torch.rand(queries, items, generator=generator) < 0.3


@given(
    st.sampled_from(["class ids", "multi-hot"]),
    st.booleans(),
    st.sampled_from(["groups", "mask", "everything", "nothing"]),
    st.integers(0, 99),
)
def test_equals_loop(kind, includes, what, seed):
    r, z = random_codes(25, 7, seed), random_labels(25, kind, seed)
    q, y = random_codes(6, 7, seed + 1), random_labels(6, kind, seed + 1)
    start = 0
    if includes:
        start = 4
        q, y = r[4:10], z[4:10]
    groups = random_groups(6, seed), random_groups(25, seed + 1)
    mask = random_mask(6, 25, seed)
    if what == "groups":
        exclude, mask = groups, groups[0][:, None] == groups[1]
    else:
        mask = mask | (what == "everything")
        mask = mask & (what != "nothing")
        exclude = mask
    own = (lambda i: i + start) if includes else None
    args = (x.tolist() for x in (q, y, r, z))
    expected = naive.histograms_without(*args, lambda i, j: bool(mask[i, j]), own)
    options = {"query_start": start, "exclude": exclude}
    with pytest.MonkeyPatch.context() as patch:  # small blocks: their edges are crossed
        patch.setattr(module, "_BLOCK_PAIRS", 20)
        patch.setattr(module, "_BLOCK_REFERENCES", 7)
        items, hits = hamming_histograms(q, y, r, z, includes, **options)
        counts = grade_histograms(q, y, r, z, includes, **options)
    for i in range(6):
        for d in range(8):
            grades = expected[i][d]
            assert (items[i, d], hits[i, d]) == (len(grades), sum(map(bool, grades)))
            found = counts[i, d].tolist()
            assert found == [grades.count(g) for g in range(counts.shape[2])]


def test_grades_of_ones_own():
    q, r, y, z = (
        random_codes(5, 6, 1),
        random_codes(20, 6, 2),
        torch.arange(5),
        torch.arange(20),
    )
    mask = random_mask(5, 20, 3)
    options = {"relevance": lambda a, b: (a[:, None] + b) % 3, "grades": 3}
    counts = grade_histograms(q, y, r, z, exclude=mask, **options)
    for i in range(5):
        kept = ~mask[i]
        alone = grade_histograms(q[i : i + 1], y[i : i + 1], r[kept], z[kept], **options)
        assert torch.equal(counts[i], alone[0])


@pytest.mark.parametrize("kind", ["class ids", "multi-hot"])
def test_metrics_equal_a_database_without_the_pairs(kind):
    r, z = random_codes(60, 8, 1), random_labels(60, kind, 1)
    groups = torch.arange(60) % 7
    sides = r[:10], z[:10], r, z
    options = {"ref_includes_query": True, "exclude": (groups[:10], groups)}
    values, gains, lists = [], [], []
    for i in range(10):
        kept = groups != groups[i]
        alone = r[i : i + 1], z[i : i + 1], r[kept], z[kept]
        values.append(mean_average_precision(*alone, k=9))
        gains.append(ndcg(*alone, k=9))
        lists.append(conventional_average_precision(*alone, k=9).item())
    for budget in (2**20, 2**28):
        options["max_bytes"] = budget
        found = mean_average_precision(*sides, k=9, **options)
        assert found == pytest.approx(torch.tensor(values).double().nanmean().item())
        found = ndcg(*sides, k=9, **options)
        assert found == pytest.approx(torch.tensor(gains).double().nanmean().item())
    found = conventional_average_precision(*sides, k=9, **options)
    torch.testing.assert_close(found, torch.tensor(lists).double(), equal_nan=True)
    packed = pack_codes(r[:10]), z[:10], pack_codes(r), z
    assert mean_average_precision(*packed, k=9, bits=8, **options) == pytest.approx(
        torch.tensor(values).double().nanmean().item()
    )


CODES, LABELS = random_codes(4, 8), torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("exclude", "error", "message"),
    [
        (torch.zeros(4, 4), TypeError, "mask of bool .* got torch.float32"),
        (torch.zeros(4, 3).bool(), ValueError, r"shape \(4, 4\), got \(4, 3\)"),
        ((LABELS, LABELS[:3]), ValueError, r"\(4,\) and \(4,\), got \(4,\) and \(3,\)"),
        ((LABELS, LABELS / 2), TypeError, "must be integers"),
        ((["a"] * 4, ["b"] * 4), TypeError, "LabelMap"),
        (LABELS, TypeError, "mask of bool"),
    ],
)
def test_bad_input(exclude, error, message):
    for function in (hamming_histograms, mean_average_precision):
        with pytest.raises(error, match=message):
            function(CODES, LABELS, CODES, LABELS, exclude=exclude)
