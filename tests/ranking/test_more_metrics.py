"""Hit rate, ACG, WAP, ties and classes: each against loops over all orders of ties."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pml_nmlayer.codes import pack_codes
from pml_nmlayer.hamming import distinct_codes, grade_histograms
from pml_nmlayer.labels import jaccard
from pml_nmlayer.ranking import (
    hit_rate_at_k,
    mean_by_class,
    tie_aware_acg,
    tie_aware_average_precision,
    tie_aware_map_at_r,
    tie_aware_wap,
    tied_at_k,
)
from tests import naive
from tests.hamming.test_hamming import random_codes, random_labels

# Up to six items in up to four ties: every order of tied items can be listed.
GRADES = st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=4).filter(
    lambda ties: sum(map(len, ties)) <= 6
)


def counts_of(ties):
    return torch.tensor([[[tie.count(g) for g in range(4)] for tie in ties]])


def over_all_orders(ties, value):
    values = [value(list(order)) for order in naive.orders_of_ties(ties)]
    return sum(values) / len(values)


@given(ties=GRADES, k=st.integers(1, 8))
def test_hit_rate(ties, k):
    counts = counts_of(ties)
    value = hit_rate_at_k(counts.sum(2), counts[:, :, 1:].sum(2), k).item()
    expected = over_all_orders(ties, lambda ranked: naive.hit_rate(ranked, k))
    assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(ties=GRADES)
def test_map_at_r(ties):
    counts = counts_of(ties)
    value = tie_aware_map_at_r(counts.sum(2), counts[:, :, 1:].sum(2)).item()
    relevant = sum(grade > 0 for tie in ties for grade in tie)

    def at_r(ranked):
        hits = [grade > 0 for grade in ranked]
        return naive.average_precision(hits, relevant, "relevant") if relevant else math.nan

    assert value == pytest.approx(over_all_orders(ties, at_r), abs=1e-12, nan_ok=True)


@given(ties=GRADES, k=st.one_of(st.none(), st.integers(1, 8)))
def test_acg_and_wap(ties, k):
    counts = counts_of(ties)
    for metric, loop in (
        (tie_aware_acg, naive.cumulative_gain),
        (tie_aware_wap, naive.weighted_precision),
    ):
        expected = over_all_orders(ties, lambda ranked, loop=loop: loop(ranked, k))
        value = metric(counts, k).item()
        assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("k", [None, 3, 40])
def test_wap_of_two_grades_is_average_precision(k):
    counts = torch.randint(0, 9, (20, 9, 2))
    items, hits = counts.sum(2), counts[:, :, 1]
    expected = tie_aware_average_precision(items, hits, k)
    torch.testing.assert_close(tie_aware_wap(counts, k), expected, equal_nan=True)


def test_large_ties_and_many_hits():
    items, hits = torch.tensor([[10**9]]), torch.tensor([[10**6]])
    value = hit_rate_at_k(items, hits, 100).item()
    expected = 1 - math.prod(1 - 10**6 / (10**9 - j) for j in range(100))
    assert value == pytest.approx(expected, rel=1e-9)


def test_graded_labels_of_ones_own():
    q, r = random_codes(5, 6, 1), random_codes(30, 6, 2)
    y, z = random_labels(5, "multi-hot", 1), random_labels(30, "multi-hot", 2)
    y[0, 0] = 1
    counts = grade_histograms(
        q, y, r, z, relevance=lambda a, b: (jaccard(a, b) * 6).round(), grades=7
    )
    assert tie_aware_acg(counts, 5).shape == tie_aware_wap(counts, 5).shape == (5,)


def test_tied_at_k():
    items = torch.tensor([[0, 3, 4], [2, 1, 0], [0, 0, 2], [0, 0, 0]])
    assert tied_at_k(items, 3)[:3].tolist() == [1, 0, 1]
    assert tied_at_k(items, 3)[3].isnan()


def test_distinct_codes():
    codes = random_codes(500, 5)
    expected = len({tuple(row) for row in codes.tolist()})
    assert distinct_codes(codes) == expected
    assert distinct_codes(pack_codes(codes), bits=5) == expected
    assert distinct_codes(codes[:0]) == 0


def test_means_by_class():
    values = torch.tensor([1.0, 0.5, torch.nan, torch.nan, 0.0])
    found = mean_by_class(values, torch.tensor([9, 9, 9, 4, 2**40]))
    assert list(found) == [4, 9, 2**40]
    assert (found[9], found[2**40]) == (0.75, 0)
    assert math.isnan(found[4])
    assert mean_by_class(values, [9, 9, 9, 4, 7], empty="zero")[9] == 0.5
    rows = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0]])
    assert mean_by_class(values, rows) == {0: 0.5, 1: 0.75}
