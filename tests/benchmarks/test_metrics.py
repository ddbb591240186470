import numpy as np

from benchmarks.kernels import argsort_map
from benchmarks.metrics import METRICS, judge
from tests import naive


def test_judged_from_packed_codes_as_by_hand():
    rng = np.random.default_rng(0)
    bits = {name: rng.integers(0, 2, (n, 3)) for name, n in (("query", 4), ("database", 7))}
    labels = {"query": [0, 1, 1, 0], "database": [0, 1, 0, 1, 1, 0, 1]}
    arrays = {f"{name}_codes": np.packbits(rows, axis=1) for name, rows in bits.items()}
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
    found = judge(arrays, bits=3)
    assert sorted(found) == sorted(METRICS) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12)


def test_argsort_map_by_hand():
    database = np.array([[1.0, 1, 1], [1, 1, -1], [1, -1, -1], [-1, -1, -1]])
    labels = np.array([1, 0, 1, 0])
    value = argsort_map(database[:1], np.array([1]), database, labels)
    np.testing.assert_allclose(value, (1 / 1 + 2 / 3) / 2)
