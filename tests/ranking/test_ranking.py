import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from pml_nmlayer.hamming import grade_histograms, hamming_histograms
from pml_nmlayer.ranking import (
    conventional_average_precision,
    f1_within_radius,
    mean_average_precision,
    mean_over_queries,
    ndcg,
    precision_at_k,
    precision_recall_curve,
    precision_within_radius,
    recall_at_k,
    recall_within_radius,
    tie_aware_average_precision,
    tie_aware_ndcg,
    tie_aware_reciprocal_rank,
)
from tests import naive
from tests.hamming.test_hamming import random_codes, random_labels

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
        value = tie_aware_average_precision(
            items, hits, k, normalizer=normalizer, tie_order=order
        )
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
        value = tie_aware_average_precision(items, hits, k, normalizer=normalizer).item()
        expected = naive.average_precision(ranked, k, normalizer)
        assert value == pytest.approx(expected, abs=1e-12)


@given(st.sampled_from(NORMALIZERS), st.sampled_from([None, 1, 7, 40]), st.integers(0, 999))
def test_shuffling_the_database_changes_nothing(normalizer, k, seed):
    q, r = random_codes(5, 6, seed), random_codes(40, 6, seed + 1)
    y, z = random_labels(5, "class ids", seed), random_labels(40, "class ids", seed + 1)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    value = mean_average_precision(q, y, r, z, k=k, normalizer=normalizer)
    assert (
        mean_average_precision(q, y, r[order], z[order], k=k, normalizer=normalizer)
        == value
    )
    best = mean_average_precision(q, y, r, z, k=k, normalizer=normalizer, tie_order="best")
    worst = mean_average_precision(
        q, y, r, z, k=k, normalizer=normalizer, tie_order="worst"
    )
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
        assert (
            tie_aware_average_precision(items, hits, 2, normalizer=normalizer).item() == 0
        )


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


@given(ties=TIES, k=st.integers(1, 8))
def test_metrics_of_ranks_over_all_permutations(ties, k):
    ranked = naive.orders_of_ties(ties)
    items, hits = histograms_of(ties)
    for value, oracle in [
        (precision_at_k(items, hits, k), naive.retrieval_precision_at_k),
        (recall_at_k(items, hits, k), naive.retrieval_recall_at_k),
    ]:
        values = [oracle(order, k) for order in ranked]
        expected = sum(values) / len(values)
        assert value.item() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    values = [naive.retrieval_reciprocal_rank(order) for order in ranked]
    for order, expected in [
        ("expected", sum(values) / len(values)),
        ("best", max(values)),
        ("worst", min(values)),
    ]:
        value = tie_aware_reciprocal_rank(items, hits, tie_order=order)
        assert value.dtype == torch.float64
        assert value.item() == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(("before", "n", "h"), [(0, 5000, 1), (7, 4000, 3), (90, 300, 299)])
def test_reciprocal_rank_in_large_ties(before, n, h):
    weights = [math.comb(n - p, h - 1) for p in range(1, n - h + 2)]
    terms = [w / math.comb(n, h) / (before + p) for p, w in enumerate(weights, start=1)]
    items, hits = torch.tensor([[before, n, 5]]), torch.tensor([[0, h, 5]])
    value = tie_aware_reciprocal_rank(items, hits).item()
    assert value == pytest.approx(math.fsum(terms), rel=1e-12)
    both = tie_aware_reciprocal_rank(
        torch.cat([items, torch.tensor([[4, 0, 1]])]),
        torch.cat([hits, torch.tensor([[2, 0, 1]])]),
    )
    assert both[0].item() == value
    assert both[1].item() == pytest.approx(1 / 2 * 1 + 1 / 3 * 1 / 2 + 1 / 6 * 1 / 3)


@given(ties=TIES, radius=st.integers(0, 5))
def test_balls_equal_loop(ties, radius):
    items, hits = histograms_of(ties)
    expected = naive.retrieval_ball(items[0].tolist(), hits[0].tolist(), radius)
    metrics = (precision_within_radius, recall_within_radius, f1_within_radius)
    found = [metric(items, hits, radius).item() for metric in metrics]
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("kind", ["class ids", "multi-hot"])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("include_query", [False, True])
@pytest.mark.parametrize("k", [None, 1, 9, 99])
def test_conventional_equals_a_stable_sort(kind, normalizer, include_query, k):
    r, z = random_codes(40, 5, 2), random_labels(40, kind, 2)
    q, y = (r[:6], z[:6]) if include_query else (random_codes(6, 5), random_labels(6, kind))
    values = conventional_average_precision(
        q, y, r, z, k=k, normalizer=normalizer, ref_includes_query=include_query,
        max_bytes=2**20,
    )  # fmt: skip
    for i in range(6):
        ranked = naive.retrieval_conventional_ranking(
            *(x.tolist() for x in (q[i], y[i], r, z)), i if include_query else None
        )
        expected = naive.average_precision(ranked, k, normalizer)
        assert values[i].item() == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_conventional_lies_between_the_bounds_and_sees_the_order():
    q, r = random_codes(9, 6, 1), random_codes(300, 6, 2)
    y, z = torch.arange(9) % 3, torch.arange(300) % 3
    order = z.argsort(stable=True)
    shuffled = conventional_average_precision(q, y, r, z)
    by_class = conventional_average_precision(q, y, r[order], z[order])
    assert not torch.equal(shuffled, by_class)
    items, hits = hamming_histograms(q, y, r, z)
    for values in (shuffled, by_class):
        for bound, sign in (("worst", 1), ("best", -1)):
            limit = tie_aware_average_precision(items, hits, tie_order=bound)
            assert (sign * (values - limit) >= -1e-12).all()
    first = y == 0  # classes that the database begins with are flattered
    assert (by_class[first] > tie_aware_average_precision(items, hits)[first]).all()
    assert len(conventional_average_precision(q[:0], y[:0], r, z)) == 0


def test_without_ties_the_conventional_value_is_ours():
    q, r = torch.ones(1, 30), torch.ones(30, 30)
    for i in range(30):
        r[i, : i + 1] = -1
    y, z = torch.tensor([1]), torch.randint(2, (30,))
    for k in (None, 5, 30):
        conventional = conventional_average_precision(q, y, r, z, k=k).item()
        assert mean_average_precision(q, y, r, z, k=k) == pytest.approx(conventional)


def test_blocks_of_queries_change_nothing():
    r, z = random_codes(600, 40), random_labels(600, "multi-hot")
    for include_query in (False, True):
        args = r, z, r, z
        options = {"ref_includes_query": include_query}
        values = [
            mean_average_precision(*args, k=7, max_bytes=b, **options)
            for b in (2**20, 2**28)
        ]
        assert values[0] == pytest.approx(values[1], abs=1e-12)
        values = [ndcg(*args, k=7, max_bytes=b, **options) for b in (2**20, 2**28)]
        assert values[0] == pytest.approx(values[1], abs=1e-12)
    with pytest.raises(ValueError, match="items but"):
        mean_average_precision(r, torch.cat([z, z]), r, z, max_bytes=2**20)


def test_queries_without_relevant_items_can_count_as_zero():
    q, y = random_codes(4, 6), torch.tensor([0, 1, 7, 7])
    r, z = random_codes(30, 6, 1), torch.arange(30) % 2
    skipped = mean_average_precision(q, y, r, z)
    assert mean_average_precision(q, y, r, z, empty="zero") == pytest.approx(skipped / 2)
    assert ndcg(q, y, r, z, empty="zero") == pytest.approx(ndcg(q, y, r, z) / 2)
    assert mean_average_precision(q[2:], y[2:], r, z, empty="zero") == 0
    histograms = hamming_histograms(q, y, r, z)
    half = precision_recall_curve(*histograms, empty="zero")[1]
    torch.testing.assert_close(2 * half, precision_recall_curve(*histograms)[1])


def test_relevance_of_ones_own():
    q, r = random_codes(4, 6), random_codes(30, 6, 1)
    y, z = random_labels(4, "multi-hot"), random_labels(30, "multi-hot", 1)

    def both(a, b):
        return (a.float() @ b.float().T >= 2).long()

    value = mean_average_precision(q, y, r, z, relevance=both)
    lists = conventional_average_precision(q, y, r, z, relevance=both).nanmean().item()
    assert value == pytest.approx(lists, abs=0.2)
    assert value != mean_average_precision(q, y, r, z)
    # Relevant or not: the ideal puts all relevant items first.
    assert ndcg(q, y, r, z, relevance=both, grades=2) != ndcg(q, y, r, z)


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
    value = tie_aware_ndcg(counts, k, gain=gain).item()
    assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_ndcg_of_codes():
    q, r = random_codes(4, 7), random_codes(30, 7, 1)
    y, z = random_labels(4, "multi-hot"), random_labels(30, "multi-hot", 1)
    values = tie_aware_ndcg(grade_histograms(q, y, r, z), 10)
    assert ndcg(q, y, r, z, k=10) == pytest.approx(values.nanmean().item())


ITEMS, HITS = torch.tensor([[1, 2]]), torch.tensor([[0, 1]])
Q2 = random_codes(2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tie_aware_average_precision(ITEMS, HITS[0]), r"shape \(Q, K \+ 1\)"),
        (lambda: tie_aware_average_precision(HITS, ITEMS), "between 0 and items"),
        (lambda: tie_aware_average_precision(ITEMS, -HITS), "between 0 and items"),
        (lambda: tie_aware_average_precision(ITEMS, HITS, 0), "k must be >= 1"),
        (lambda: tie_aware_average_precision(ITEMS, HITS, -1), "k must be >= 1"),
        (
            lambda: tie_aware_average_precision(ITEMS, HITS, 1, normalizer="all"),
            "normalizer must be",
        ),
        (
            lambda: tie_aware_average_precision(ITEMS, HITS, tie_order="mean"),
            "tie_order must be",
        ),
        (lambda: precision_within_radius(ITEMS, HITS, -1), "radius must be >= 0"),
        (lambda: precision_at_k(ITEMS, HITS, 0), "k must be >= 1"),
        (lambda: recall_at_k(ITEMS, HITS, 0), "k must be >= 1"),
        (lambda: recall_at_k(HITS, ITEMS, 1), "between 0 and items"),
        (
            lambda: tie_aware_reciprocal_rank(ITEMS, HITS, tie_order="mean"),
            "tie_order must be",
        ),
        (lambda: mean_over_queries(ITEMS[0], empty="nan"), "empty must be one of"),
        (lambda: precision_recall_curve(ITEMS, HITS, empty="nan"), "empty must be one of"),
        (
            lambda: conventional_average_precision(Q2, Q2[:, 0], Q2, Q2[:, 0], k=0),
            "k must be >= 1",
        ),
        (
            lambda: conventional_average_precision(
                Q2, Q2[:, 0], Q2, Q2[:, 0], k=1, normalizer="all"
            ),
            "normalizer must be",
        ),
        (lambda: tie_aware_ndcg(ITEMS), r"shape \(Q, K \+ 1, G\)"),
        (lambda: tie_aware_ndcg(ITEMS[:, None], 0), "k must be >= 1"),
        (lambda: tie_aware_ndcg(ITEMS[:, None], gain="square"), "gain must be"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
