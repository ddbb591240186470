import math

import numpy as np

from benchmarks.reporting.judge import judge
from benchmarks.reporting.metrics import METRICS, main_metrics, shown
from benchmarks.running.contests import argsort_map
from tests import naive

OF_CODES = ("map", "recall_at_1", "map_at_r", "p_at_10", "top10_tied", "p_at_radius_2")
OF_STORAGE = ("distinct_codes", "stored_bits")


def test_judged_from_packed_codes_as_by_hand():
    rng = np.random.default_rng(0)
    bits = {name: rng.integers(0, 2, (n, 3)) for name, n in (("query", 4), ("database", 7))}
    labels = {"query": [0, 1, 1, 0], "database": [0, 1, 0, 1, 1, 0, 1]}
    arrays = {f"{name}_code": np.packbits(rows, axis=1) for name, rows in bits.items()}
    arrays |= {f"{name}_labels": np.array(values) for name, values in labels.items()}

    average, near = [], []
    ties = naive.histograms(
        bits["query"].tolist(),
        labels["query"],
        bits["database"].tolist(),
        labels["database"],
        False,
    )
    for at_distance in ties:
        orders = naive.orders_of_ties(at_distance)
        values = [naive.average_precision(order, None, "relevant") for order in orders]
        average.append(sum(values) / len(values))
        ball = [hit for tie in at_distance[:3] for hit in tie]
        near.append(sum(ball) / len(ball) if ball else 0.0)
    expected = {"map": np.mean(average), "p_at_radius_2": np.mean(near)}
    found = judge(arrays, bits=3)["code"]
    assert set(found) == {*OF_CODES, *OF_STORAGE}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12)


def test_argsort_map_by_hand():
    database = np.array([[1.0, 1, 1], [1, 1, -1], [1, -1, -1], [-1, -1, -1]])
    labels = np.array([1, 0, 1, 0])
    value = argsort_map(database[:1], np.array([1]), database, labels)
    np.testing.assert_allclose(value, (1 / 1 + 2 / 3) / 2)


def test_ndcg_counts_shared_labels_by_hand():
    # One query; distances 0, 1, 1, 3 and 2, 0, 1, 1 shared labels: one tie of two orders.
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 1]])
    rows = np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0]], np.uint8)
    arrays = {"query_code": np.packbits(codes[:1], axis=1), "query_labels": rows[:1]}
    arrays |= {"database_code": np.packbits(codes, axis=1), "database_labels": rows}
    discounts = [1 / math.log2(1 + rank) for rank in (1, 2, 3, 4)]

    def dcg(gains):
        return sum(g * d for g, d in zip(gains, discounts, strict=True))

    expected = (dcg([2, 0, 1, 1]) + dcg([2, 1, 0, 1])) / 2 / dcg([2, 1, 1, 0])
    found = judge(arrays, bits=3)["code"]
    np.testing.assert_allclose(found["ndcg"], expected, rtol=1e-12)
    assert set(found) == {*OF_CODES, *OF_STORAGE, "ndcg"}


def test_coarse_labels_are_judged_as_labels_are():
    rng = np.random.default_rng(0)
    arrays = {"query_code": rng.integers(0, 256, (9, 1), np.uint8)}
    arrays["database_code"] = rng.integers(0, 256, (40, 1), np.uint8)
    arrays |= {"query_float": rng.normal(size=(9, 3)).astype(np.float32)}
    arrays |= {"database_float": rng.normal(size=(40, 3)).astype(np.float32)}
    arrays |= {"query_labels": np.arange(9) % 6, "database_labels": np.arange(40) % 6}
    coarse = {
        f"{part}_labels": arrays[f"{part}_labels"] // 2 for part in ("query", "database")
    }
    named = {name.replace("labels", "coarse_labels"): v for name, v in coarse.items()}
    fine, both = judge(arrays, bits=8), judge({**arrays, **named}, bits=8)
    by_coarse = judge({**arrays, **coarse}, bits=8)
    assert both.keys() == {"code", "float"}
    for name, values in both.items():
        assert values == {**fine[name], "coarse_map": by_coarse[name]["map"]}
        assert values["coarse_map"] != values["map"]


def test_what_is_shown_is_what_was_computed():
    names = [[m.name for m in shown(values)] for values in ([], [{}], [{"map": 1.0}])]
    assert names == [[*OF_CODES], [*OF_CODES], ["map"]]
    every = shown([dict.fromkeys(METRICS, 0.5)])
    assert [m.name for m in main_metrics(every)] == ["map", "ndcg"]


def test_embeddings_are_ranked_by_cosine_by_hand():
    arrays = {
        "query_float": np.array([[2.0, 0.0]], np.float32),
        "database_float": np.array([[9, 9], [0.1, 0], [1, 2], [-1, 0]], np.float32),
        "query_labels": np.array([1]),
        "database_labels": np.array([1, 0, 1, 1]),
    }  # ranks of the database: 2, 1, 3, 4
    found = judge(arrays, bits=2)
    assert found.keys() == {"float"}
    assert set(found["float"]) == {*OF_CODES, *OF_STORAGE} - {"p_at_radius_2"}
    np.testing.assert_allclose(found["float"]["map"], (1 / 2 + 2 / 3 + 3 / 4) / 3)

    rows = np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0]], np.uint8)
    arrays |= {"query_labels": rows[:1], "database_labels": rows}
    discounts = [1 / math.log2(1 + rank) for rank in (1, 2, 3, 4)]
    dcg, ideal = (
        sum(g * d for g, d in zip(gains, discounts, strict=True))
        for gains in ([0, 2, 1, 1], [2, 1, 1, 0])
    )
    np.testing.assert_allclose(judge(arrays, bits=2)["float"]["ndcg"], dcg / ideal)
