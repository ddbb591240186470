import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from pml_nmlayer.hamming import grade_histograms, hamming_histograms
from pml_nmlayer.ranking import (
    mean_average_precision,
    ndcg,
    precision_recall_curve,
    precision_within_radius,
    recall_within_radius,
    tie_aware_average_precision,
    tie_aware_ndcg,
)
from tests import naive
from tests.test_hamming import random_codes, random_labels

NORMALIZERS = ["retrieved", "relevant", "min"]

# Up to six items in up to four ties: every order of tied items can be listed.
TIES = st.lists(st.lists(st.booleans(), max_size=6), min_size=1, max_size=4).filter(
    lambda ties: sum(map(len, ties)) <= 6
)


def histograms_of(ties):
    items = torch.tensor([[len(tie) for tie in ties]])
    hits = torch.tensor([[sum(tie) for tie in ties]])
    return items, hits


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@given(ties=TIES, k=st.one_of(st.none(), st.integers(1, 8)))
def test_expected_best_and_worst_over_all_permutations(normalizer, ties, k):
    values = [
        naive.average_precision(ranked, k, normalizer)
        for ranked in naive.orders_of_ties(ties)
    ]
    items, hits = histograms_of(ties)
    for order, expected in [
        ("expected", sum(values) / len(values)),
        ("best", max(values)),
        ("worst", min(values)),
    ]:
        value = tie_aware_average_precision(items, hits, k, normalizer, order)
        assert value.dtype == torch.float64
        assert value.item() == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 45))
def test_without_ties_it_is_plain_average_precision(ranked, k):
    assume(any(ranked))
    items, hits = histograms_of([[relevant] for relevant in ranked])
    value = tie_aware_average_precision(items, hits).item()
    scores = np.arange(len(ranked), 0, -1)
    assert value == pytest.approx(average_precision_score(ranked, scores), abs=1e-12)
    for normalizer in NORMALIZERS:
        value = tie_aware_average_precision(items, hits, k, normalizer).item()
        expected = naive.average_precision(ranked, k, normalizer)
        assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("k", [None, 1, 7, 40])
@given(seed=st.integers(0, 999))
def test_shuffling_the_database_changes_nothing(normalizer, k, seed):
    q, r = random_codes(5, 6, seed), random_codes(40, 6, seed + 1)
    y, z = random_labels(5, "class ids", seed), random_labels(40, "class ids", seed + 1)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    value = mean_average_precision(q, y, r, z, k, normalizer)
    assert mean_average_precision(q, y, r[order], z[order], k, normalizer) == value
    best = mean_average_precision(q, y, r, z, k, normalizer, tie_order="best")
    worst = mean_average_precision(q, y, r, z, k, normalizer, tie_order="worst")
    assert worst - 1e-12 <= value <= best + 1e-12


def expected_precision_sum(n, h, before_n, before_h, m):
    """The sum over a tie, term by term with exactly rounded addition."""
    slope = (h - 1) / (n - 1) if n > 1 else 0.0
    return math.fsum(
        h / n * (before_h + 1 + (p - 1) * slope) / (before_n + p) for p in range(1, m + 1)
    )


@pytest.mark.parametrize("before", [0, 3, 15, 16, 500, 100_000])
@pytest.mark.parametrize("n", [1, 2, 1_000, 30_000])
def test_large_ties_keep_twelve_digits(before, n):
    h = max(n // 3, 1)
    items = torch.tensor([[before, n]])
    hits = torch.tensor([[0, h]])
    expected = expected_precision_sum(n, h, before, 0, n) / h
    value = tie_aware_average_precision(items, hits).item()
    assert value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("k", [10, 350, 700])
def test_large_cut_ties_equal_the_mean_of_many_shuffles(k):
    items, hits = torch.tensor([[100, 900, 50]]), torch.tensor([[20, 400, 10]])
    rng = np.random.default_rng(0)
    blocks = [np.arange(int(n)) < int(h) for n, h in zip(items[0], hits[0], strict=True)]
    values = [
        naive.average_precision(
            np.concatenate([rng.permutation(block) for block in blocks]).tolist(),
            k,
            "retrieved",
        )
        for _ in range(2000)
    ]
    error = np.std(values) / math.sqrt(len(values))
    value = tie_aware_average_precision(items, hits, k).item()
    assert abs(value - np.mean(values)) < 4 * error


def test_a_query_without_relevant_items_is_left_out():
    q = torch.tensor([[1.0, 1], [1, 1]])
    r = torch.tensor([[1.0, 1], [-1, 1]])
    y, z = torch.tensor([0, 7]), torch.tensor([0, 1])
    items, hits = hamming_histograms(q, y, r, z)
    values = tie_aware_average_precision(items, hits)
    assert values[0] == 1
    assert values[1].isnan()
    assert mean_average_precision(q, y, r, z) == 1
    assert math.isnan(mean_average_precision(q[1:], y[1:], r, z))
    assert recall_within_radius(items, hits)[1].isnan()
    assert math.isnan(ndcg(q[1:], y[1:], r, z))


def test_nothing_relevant_retrieved_is_zero():
    items, hits = torch.tensor([[3, 2]]), torch.tensor([[0, 2]])
    for normalizer in NORMALIZERS:
        assert tie_aware_average_precision(items, hits, 2, normalizer).item() == 0


def test_zero_queries():
    empty = torch.zeros(0, 9, dtype=torch.long)
    for k in (None, 3):
        assert tie_aware_average_precision(empty, empty, k).shape == (0,)
    assert tie_aware_ndcg(torch.zeros(0, 9, 2, dtype=torch.long)).shape == (0,)
    codes = random_codes(3, 8)
    y = torch.tensor([0, 1, 0])
    with pytest.raises(ValueError, match="no queries"):
        mean_average_precision(codes[:0], y[:0], codes, y)


@given(TIES, st.integers(0, 5))
def test_radius_metrics_equal_loop(ties, radius):
    items, hits = histograms_of(ties)
    near = [relevant for tie in ties[: radius + 1] for relevant in tie]
    precision = precision_within_radius(items, hits, radius).item()
    assert precision == (sum(near) / len(near) if near else 0)
    everything = sum(relevant for tie in ties for relevant in tie)
    recall = recall_within_radius(items, hits, radius).item()
    expected = sum(near) / everything if everything else math.nan
    assert recall == pytest.approx(expected, nan_ok=True)
    assert precision_within_radius(items * 0, hits * 0, radius, empty=0.5).item() == 0.5


def test_precision_recall_curve():
    items = torch.tensor([[0, 2, 2], [1, 0, 3], [2, 2, 0]])
    hits = torch.tensor([[0, 1, 1], [1, 0, 1], [0, 0, 0]])  # the last query is left out
    precision, recall = precision_recall_curve(items, hits)
    torch.testing.assert_close(precision.tolist(), [1.0, (0.5 + 1) / 2, (0.5 + 0.5) / 2])
    torch.testing.assert_close(recall.tolist(), [0.25, 0.5, 1.0])
    with pytest.raises(ValueError, match="no query has a relevant item"):
        precision_recall_curve(items, hits * 0)


GRADED = st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=4).filter(
    lambda ties: 1 <= sum(map(len, ties)) <= 6
)


@given(
    GRADED,
    st.one_of(st.none(), st.integers(1, 8)),
    st.sampled_from(["exponential", "linear"]),
)
def test_ndcg_is_the_mean_over_all_permutations(ties, k, gain):
    counts = torch.tensor([[[tie.count(g) for g in range(4)] for tie in ties]])
    ideal = naive.dcg(sorted((g for tie in ties for g in tie), reverse=True), k, gain)
    values = [naive.dcg(ranked, k, gain) for ranked in naive.orders_of_ties(ties)]
    expected = sum(values) / len(values) / ideal if ideal else math.nan
    value = tie_aware_ndcg(counts, k, gain).item()
    assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_ndcg_of_codes():
    q, r = random_codes(4, 7), random_codes(30, 7, 1)
    y, z = random_labels(4, "multi-hot"), random_labels(30, "multi-hot", 1)
    values = tie_aware_ndcg(grade_histograms(q, y, r, z), 10)
    assert ndcg(q, y, r, z, k=10) == pytest.approx(values.nanmean().item())


ITEMS, HITS = torch.tensor([[1, 2]]), torch.tensor([[0, 1]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tie_aware_average_precision(ITEMS, HITS[0]), r"shape \(Q, K \+ 1\)"),
        (lambda: tie_aware_average_precision(HITS, ITEMS), "between 0 and items"),
        (lambda: tie_aware_average_precision(ITEMS, -HITS), "between 0 and items"),
        (lambda: tie_aware_average_precision(ITEMS, HITS, 0), "k must be at least 1"),
        (lambda: tie_aware_average_precision(ITEMS, HITS, -1), "k must be at least 1"),
        (lambda: tie_aware_average_precision(ITEMS, HITS, 1, "all"), "normalizer must be"),
        (
            lambda: tie_aware_average_precision(ITEMS, HITS, tie_order="mean"),
            "tie_order must be",
        ),
        (lambda: precision_within_radius(ITEMS, HITS, -1), "radius must be >= 0"),
        (lambda: tie_aware_ndcg(ITEMS), r"shape \(Q, K \+ 1, G\)"),
        (lambda: tie_aware_ndcg(ITEMS[:, None], 0), "k must be at least 1"),
        (lambda: tie_aware_ndcg(ITEMS[:, None], gain="square"), "gain must be"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
