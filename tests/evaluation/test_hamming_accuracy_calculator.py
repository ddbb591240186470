import copy
import math
import pickle
import sqlite3

import numpy as np
import pytest
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

import pml_nmlayer.evaluation.metrics_by_name as module
from pml_nmlayer import ranking
from pml_nmlayer.evaluation import HAMMING_METRICS, HammingAccuracyCalculator, HammingKNN
from pml_nmlayer.hamming import distinct_codes, grade_histograms, hamming_histograms
from pml_nmlayer.merging.bit_statistics import bit_statistics
from pml_nmlayer.ranking import mean_average_precision
from tests.hamming.test_hamming import random_codes, random_labels

CPU = torch.device("cpu")
Q, R = random_codes(9, 12, 1), random_codes(60, 12, 2)
Q_LABELS, R_LABELS = torch.arange(9) % 3, torch.arange(60) % 3


def calculator(*args, **kwargs):
    return HammingAccuracyCalculator(*args, device=CPU, **kwargs)


def test_default_metrics_equal_the_functions():
    result = calculator(k=7).get_accuracy(Q, Q_LABELS, R, R_LABELS)
    assert set(result) == {
        "hamming_map",
        "hamming_map_at_k",
        "precision_at_radius_2",
        "recall_at_radius_2",
    }
    expected = mean_average_precision(Q, Q_LABELS, R, R_LABELS)
    assert result["hamming_map"] == pytest.approx(expected, abs=1e-12)
    at_k = mean_average_precision(Q, Q_LABELS, R, R_LABELS, k=7)
    assert result["hamming_map_at_k"] == pytest.approx(at_k, abs=1e-12)
    assert all(isinstance(value, float) for value in result.values())
    assert "hamming_map_at_k" not in calculator().get_curr_metrics()


def test_real_outputs_normalised_or_not_arrays_or_tensors():
    u, v = torch.randn(9, 12), torch.randn(60, 12)
    expected = calculator().get_accuracy(u, Q_LABELS, v, R_LABELS)
    normalised = [torch.nn.functional.normalize(x) for x in (u, v)]
    assert (
        calculator().get_accuracy(normalised[0], Q_LABELS, normalised[1], R_LABELS)
        == expected
    )
    arrays = [np.asarray(x) for x in (u, Q_LABELS, v, R_LABELS)]
    assert calculator().get_accuracy(*arrays) == expected


def test_without_a_reference_nobody_finds_himself():
    result = calculator().get_accuracy(R, R_LABELS)
    expected = mean_average_precision(R, R_LABELS, R, R_LABELS, ref_includes_query=True)
    assert result["hamming_map"] == pytest.approx(expected, abs=1e-12)


def test_shuffling_the_database_changes_nothing():
    order = torch.randperm(60)
    result = calculator(k=10).get_accuracy(Q, Q_LABELS, R, R_LABELS)
    assert calculator(k=10).get_accuracy(Q, Q_LABELS, R[order], R_LABELS[order]) == result


def test_equals_pml_where_nothing_ties():
    # Database codes at distances 1, 2, .. 12 from a single query.
    q = torch.ones(1, 12)
    r = torch.ones(12, 12)
    for i in range(12):
        r[i, : i + 1] = -1
    labels = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0])
    for k in (None, 5):
        theirs = AccuracyCalculator(
            include=("mean_average_precision",), k=k, device=CPU
        ).get_accuracy(q, torch.tensor([0]), r, labels)
        ours = calculator(k=k, normalizer="relevant").get_accuracy(
            q, torch.tensor([0]), r, labels
        )
        name = "hamming_map" if k is None else "hamming_map_at_k"
        assert ours[name] == pytest.approx(theirs["mean_average_precision"], abs=1e-12)


def test_pml_metrics_run_on_the_codes():
    u, v = torch.randn(9, 12), torch.randn(60, 12)
    names = ("precision_at_1", "mean_average_precision_at_r", "hamming_map", "AMI")
    result = calculator(include=names).get_accuracy(u, Q_LABELS, v, R_LABELS)
    assert list(result) != []
    assert set(result) == set(names)
    sign = [torch.where(x >= 0, 1.0, -1.0) for x in (u, v)]
    expected = AccuracyCalculator(
        include=names[:2], knn_func=HammingKNN(), device=CPU
    ).get_accuracy(sign[0], Q_LABELS, sign[1], R_LABELS)
    assert {name: result[name] for name in names[:2]} == expected


def test_metrics_can_be_chosen_per_call():
    calc = calculator()
    result = calc.get_accuracy(Q, Q_LABELS, R, R_LABELS, include=("hamming_map",))
    assert list(result) == ["hamming_map"]
    assert calc.get_curr_metrics() == ["hamming_map"]
    assert len(calc.get_accuracy(Q, Q_LABELS, R, R_LABELS)) == 3


def test_multi_hot_labels():
    q_labels, r_labels = random_labels(9, "multi-hot", 1), random_labels(60, "multi-hot", 2)
    result = calculator().get_accuracy(Q, q_labels, R, r_labels)
    expected = mean_average_precision(Q, q_labels, R, r_labels)
    assert result["hamming_map"] == pytest.approx(expected, abs=1e-12)
    one_hot = torch.nn.functional.one_hot
    as_rows = calculator().get_accuracy(Q, one_hot(Q_LABELS), R, one_hot(R_LABELS))
    assert as_rows == calculator().get_accuracy(Q, Q_LABELS, R, R_LABELS)


def test_large_class_ids_are_not_rounded():
    labels = R_LABELS + 2**24
    expected = calculator().get_accuracy(Q, Q_LABELS, R, R_LABELS)
    assert calculator().get_accuracy(Q, Q_LABELS + 2**24, R, labels) == expected


def test_averages_per_class():
    per_class = calculator(return_per_class=True).get_accuracy(Q, Q_LABELS, R, R_LABELS)
    for c in range(3):
        mine = Q_LABELS == c
        expected = mean_average_precision(Q[mine], Q_LABELS[mine], R, R_LABELS)
        assert per_class["hamming_map"][c] == pytest.approx(expected)
    mean = calculator(avg_of_avgs=True).get_accuracy(Q, Q_LABELS, R, R_LABELS)
    assert mean["hamming_map"] == pytest.approx(np.mean(per_class["hamming_map"]))


def test_queries_without_relevant_items():
    lone = Q_LABELS.clone()
    lone[0] = 99
    result = calculator().get_accuracy(Q, lone, R, R_LABELS)
    expected = calculator().get_accuracy(Q[1:], Q_LABELS[1:], R, R_LABELS)
    assert result == pytest.approx(expected)
    nothing = calculator().get_accuracy(Q, Q_LABELS + 50, R, R_LABELS)
    assert all(math.isnan(value) for value in nothing.values())
    nothing = calculator(return_per_class=True).get_accuracy(Q, Q_LABELS + 50, R, R_LABELS)
    assert all(np.isnan(value).tolist() == [True] * 3 for value in nothing.values())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: calculator(include=("map",)), ValueError, "metrics must be one or more"),
        (lambda: calculator(include=("hamming_map_at_k",)), ValueError, "integer k"),
        (lambda: calculator(normalizer="all"), ValueError, "normalizer must be one of"),
        (lambda: calculator(empty="nan"), ValueError, "empty must be one of"),
        (
            lambda: calculator(include=("hamming_recall_at_k",), k="max_bin_count"),
            ValueError,
            "hamming_recall_at_k needs an integer k",
        ),
        (lambda: calculator(k=0), ValueError, "k must be >= 1"),
        (
            lambda: calculator(label_comparison_fn=torch.eq),
            NotImplementedError,
            "multi-hot labels",
        ),
        (
            lambda: calculator().get_accuracy(Q * torch.nan, Q_LABELS, R, R_LABELS),
            ValueError,
            "NaN",
        ),
        (
            lambda: calculator().get_accuracy(Q, Q_LABELS[:4], R, R_LABELS),
            ValueError,
            "9 items but 4 query labels",
        ),
        (
            lambda: calculator().get_accuracy(Q, Q_LABELS, R, R_LABELS, include=("x",)),
            ValueError,
            "metrics must be one or more",
        ),
        (
            lambda: calculator(include=("precision_at_1",)).get_accuracy(
                Q,
                torch.stack([Q_LABELS, 1 - Q_LABELS], 1) % 2,
                R,
                torch.stack([R_LABELS, 1 - R_LABELS], 1) % 2,
            ),
            NotImplementedError,
            "class ids of shape",
        ),
        (
            lambda: calculator(avg_of_avgs=True).get_accuracy(
                Q,
                torch.stack([Q_LABELS, 1 - Q_LABELS], 1) % 2,
                R,
                torch.stack([R_LABELS, 1 - R_LABELS], 1) % 2,
            ),
            NotImplementedError,
            "class ids of shape",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_every_metric_equals_its_function():
    q_labels, r_labels = random_labels(9, "multi-hot", 1), random_labels(60, "multi-hot", 2)
    q_labels[0] = 0  # nothing is relevant to the first query
    sides = Q, q_labels, R, r_labels
    items, hits = hamming_histograms(*sides)
    expected = {
        "hamming_map": ranking.tie_aware_average_precision(items, hits),
        "hamming_map_conventional": ranking.conventional_average_precision(*sides),
        "hamming_map_at_k_conventional": ranking.conventional_average_precision(
            *sides, k=7, normalizer="relevant"
        ),
        "hamming_mrr": ranking.tie_aware_reciprocal_rank(items, hits),
        "hamming_map_at_r": ranking.tie_aware_map_at_r(items, hits),
        "hamming_precision_at_k": ranking.precision_at_k(items, hits, 7),
        "hamming_recall_at_k": ranking.recall_at_k(items, hits, 7),
        "hamming_hit_rate_at_k": ranking.hit_rate_at_k(items, hits, 7),
        "hamming_tied_at_k": ranking.tied_at_k(items, 7),
        "hamming_acg_at_k": ranking.tie_aware_acg(grade_histograms(*sides), 7),
        "hamming_wap": ranking.tie_aware_wap(grade_histograms(*sides)),
        "hamming_wap_at_k": ranking.tie_aware_wap(grade_histograms(*sides), 7),
        "hamming_ndcg": ranking.tie_aware_ndcg(grade_histograms(*sides)),
        "hamming_ndcg_at_k": ranking.tie_aware_ndcg(grade_histograms(*sides), 7),
    }
    for order in ("", "_best", "_worst"):
        name = order[1:] or "expected"
        expected[f"hamming_map{order}"] = ranking.tie_aware_average_precision(
            items, hits, tie_order=name
        )
        expected[f"hamming_map_at_k{order}"] = ranking.tie_aware_average_precision(
            items, hits, 7, normalizer="relevant", tie_order=name
        )
    judged = torch.where(hits.sum(1) > 0, 1.0, torch.nan)
    for radius in range(4):
        for name in ("precision", "recall", "f1"):
            metric = getattr(ranking, f"{name}_within_radius")
            values = metric(items, hits, radius) * judged
            expected[f"{name}_at_radius_{radius}"] = values
    bits = bit_statistics(R, r_labels).summary()
    bits["distinct_codes"] = distinct_codes(R)
    assert set(HAMMING_METRICS) == set(expected) | set(bits)
    for empty in ("skip", "zero"):
        found = calculator(
            include=HAMMING_METRICS, k=7, normalizer="relevant", empty=empty
        ).get_accuracy(*sides)
        assert set(found) == set(HAMMING_METRICS)
        for name, values in expected.items():
            value = values.nanmean() if empty == "skip" else values.nan_to_num().mean()
            assert found[name] == pytest.approx(value.item(), abs=1e-12), name
        for name, value in bits.items():
            assert found[name] == pytest.approx(value)


def test_only_what_is_asked_for_is_computed(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError

    for name in ("grade_histograms", "conventional_average_precision", "bit_statistics"):
        monkeypatch.setattr(module, name, refuse)
    calculator(k=5).get_accuracy(Q, Q_LABELS, R, R_LABELS)
    monkeypatch.undo()
    monkeypatch.setattr(module, "hamming_histograms", refuse)
    names = ("hamming_ndcg", "bit_entropy", "hamming_map_conventional", "precision_at_1")
    assert set(calculator(include=names).get_accuracy(Q, Q_LABELS, R, R_LABELS)) == {*names}


def test_names_are_columns_of_an_unquoted_sql_statement():
    table = sqlite3.connect(":memory:")
    columns = ", ".join(f"{name}_level0 REAL" for name in HAMMING_METRICS)
    table.execute(f"CREATE TABLE accuracies ({columns})")
    first = table.execute("SELECT * FROM accuracies").description
    assert [column[0] for column in first] == [f"{name}_level0" for name in HAMMING_METRICS]


def test_a_calculator_can_be_copied():
    copied = pickle.loads(
        pickle.dumps(copy.deepcopy(calculator(include=HAMMING_METRICS, k=3)))
    )
    copied.k = 5
    expected = calculator(include=HAMMING_METRICS, k=5)
    arguments = Q, Q_LABELS, R, R_LABELS
    assert copied.get_accuracy(*arguments) == expected.get_accuracy(*arguments)
