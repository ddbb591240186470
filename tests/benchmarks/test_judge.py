"""Real queries, two groups of queries, training items and neighbours: each by loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.reporting.judge import judge
from benchmarks.reporting.score_histograms import score_histograms
from pml_nmlayer.ranking import (
    precision_at_k,
    tie_aware_average_precision,
    tie_aware_map_at_r,
    tied_at_k,
)
from tests import naive


def ties_of(scores, relevant):
    """One query: a list of lists of booleans, the highest score first."""
    return [
        [bool(hit) for score, hit in zip(scores, relevant, strict=True) if score == value]
        for value in sorted(set(scores), reverse=True)
    ]


def expected_ap(scores, relevant):
    orders = naive.orders_of_ties(ties_of(scores, relevant))
    values = [naive.average_precision(order, None, "relevant") for order in orders]
    return sum(values) / len(values)


@given(
    pairs=st.lists(
        st.tuples(st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.5, 3.0]), st.booleans()),
        min_size=1,
        max_size=7,
    ),
    k=st.integers(1, 8),
)
def test_ties_of_real_scores(pairs, k):
    scores, relevant = zip(*pairs, strict=True)
    items, hits = score_histograms(torch.tensor([scores]), torch.tensor([relevant]))
    assert items.sum() == len(pairs)
    assert hits.sum() == sum(relevant)
    ties = ties_of(scores, relevant)
    plain = torch.tensor([[len(tie) for tie in ties]]), torch.tensor([[*map(sum, ties)]])
    for metric in (
        tie_aware_average_precision,
        tie_aware_map_at_r,
        lambda i, h: precision_at_k(i, h, k),
        lambda i, h: tied_at_k(i, k),
    ):
        torch.testing.assert_close(
            metric(items, hits), metric(*plain), equal_nan=True, rtol=1e-12, atol=1e-12
        )
    assert tie_aware_average_precision(items, hits).item() == pytest.approx(
        expected_ap(scores, relevant), nan_ok=True
    )


RNG = np.random.default_rng(0)
CODES = {part: RNG.integers(0, 2, (n, 4)) for part, n in (("query", 5), ("database", 7))}
LABELS = {"query": np.array([0, 1, 0, 1, 1]), "database": np.array([0, 1, 0, 1, 1, 0, 1])}


def arrays(**more):
    packed = {f"{part}_code": np.packbits(rows, axis=1) for part, rows in CODES.items()}
    return {**packed, **{f"{p}_labels": v for p, v in LABELS.items()}, **more}


def test_real_queries_ask_stored_codes():
    asking = RNG.normal(size=(5, 4)).astype(np.float32)
    found = judge(arrays(**{"query_code.asymmetric": asking}), 4)
    assert found.keys() == {"code"}
    signs = 2.0 * CODES["database"] - 1
    values = [
        expected_ap((signs @ row).tolist(), LABELS["database"] == label)
        for row, label in zip(asking, LABELS["query"], strict=True)
    ]
    assert found["code"]["asymmetric_map"] == pytest.approx(np.mean(values))
    assert found["code"]["asymmetric_map"] != found["code"]["map"]


def test_vectors_are_compared_by_inner_product_and_floats_by_cosine():
    query = np.array([[1.0, 0.0]], np.float32)
    database = np.array([[3.0, 9.0], [1.0, 0.1]], np.float32)
    sides = {"query_labels": np.array([0]), "database_labels": np.array([1, 0])}
    for name, first in (("pq", 0.5), ("float", 1.0)):
        both = {f"query_{name}": query, f"database_{name}": database, **sides}
        assert judge(both, 2)[name]["map"] == first


def test_bits_of_an_item_are_those_that_are_stored():
    vectors = {"query_pq": np.zeros((5, 3), np.float32)}
    vectors["database_pq"] = np.ones((7, 3), np.float32)
    assert judge(arrays(**vectors), 4)["code"]["stored_bits"] == 4
    assert judge(arrays(**vectors), 4)["pq"]["stored_bits"] == 96
    stored = judge(arrays(**vectors, **{"stored_bits_pq.asymmetric": np.array(12)}), 4)
    assert stored["pq"]["stored_bits"] == 12
    assert stored["pq"]["distinct_codes"] == 1


def test_two_groups_of_queries_count_by_their_harmonic_mean():
    unseen = np.array([True, False, False, True, False])
    both = judge(arrays(query_is_unseen=unseen), 4)["code"]
    parts = []
    for mask in (~unseen, unseen):
        some = {f"query_{n}": v[mask] for n, v in (("labels", LABELS["query"]),)}
        some["query_code"] = np.packbits(CODES["query"][mask], axis=1)
        parts.append(judge({**arrays(), **some}, 4)["code"])
    assert both["seen_map"] == pytest.approx(parts[0]["map"])
    assert both["unseen_map"] == pytest.approx(parts[1]["map"])
    for name in ("map", "recall_at_1", "map_at_r", "p_at_10"):
        a, b = (each[name] for each in parts)
        assert both[name] == pytest.approx(2 * a * b / (a + b) if a + b else 0)


def test_training_items_are_searched_as_well():
    more = {"training_code": np.packbits(RNG.integers(0, 2, (3, 4)), axis=1)}
    more["training_labels"] = np.array([1, 0, 1])
    found = judge(arrays(**more), 4)["code"]
    whole = {
        f"database_{n}": np.concatenate([arrays()[f"database_{n}"], more[f"training_{n}"]])
        for n in ("code", "labels")
    }
    assert found["map_with_training"] == judge({**arrays(), **whole}, 4)["code"]["map"]
    assert found["map"] == judge(arrays(), 4)["code"]["map"]


def test_neighbours_are_found_among_the_first():
    nearest = np.argsort(RNG.random((5, 7)))[:, :3]
    found = judge(arrays(query_neighbours=nearest.astype(np.int32)), 4)["code"]
    assert found["neighbours_in_100"] == 1
    values = []
    for code, own in zip(CODES["query"], nearest, strict=True):
        distances = (CODES["database"] != code).sum(1)
        order = np.argsort(distances, kind="stable")
        cut = distances[order[6]] if len(order) > 10 else None
        assert cut is None  # ten of seven items are all of them
        values.append(len(set(own)) / 3)
    assert found["neighbours_in_10"] == pytest.approx(np.mean(values))


def test_neighbours_at_a_cut_tie_count_in_expectation():
    database = np.concatenate([np.zeros((9, 8), int), np.ones((4, 8), int)])
    given_codes = {
        "query_code": np.packbits(np.zeros((1, 8), int), axis=1),
        "database_code": np.packbits(database, axis=1),
        "query_labels": np.array([0]),
        "database_labels": np.arange(13) % 2,
        "query_neighbours": np.array([[0, 1, 9, 10]], np.int32),
    }
    # nine items lie at 0, one of the four at 8 bits has the tenth place
    found = judge(given_codes, 8)["code"]
    assert found["neighbours_in_10"] == pytest.approx((2 + 2 / 4) / 4)
