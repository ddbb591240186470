"""Several k, any radius, classes as keys, pairs left out; and what is refused."""

import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning.testers import GlobalEmbeddingSpaceTester
from torch.utils.data import TensorDataset

from pml_nmlayer.codes import pack_codes
from pml_nmlayer.evaluation import HammingAccuracyCalculator, hash_tester
from pml_nmlayer.hamming import hamming_histograms
from pml_nmlayer.multilabel import multilabel
from pml_nmlayer.ranking import (
    hit_rate_at_k,
    mean_by_class,
    precision_within_radius,
    recall_at_k,
    tie_aware_reciprocal_rank,
)
from tests.hamming.test_hamming import random_codes

CPU = torch.device("cpu")
Q, R = random_codes(9, 12, 1), random_codes(60, 12, 2)
Y, Z = torch.arange(9) % 3, torch.arange(60) % 3
SIDES = Q, Y, R, Z


def judged(*sides, include=("hamming_map",), options=None, **call):
    calculator = HammingAccuracyCalculator(include=include, device=CPU, **(options or {}))
    return calculator.get_accuracy(*sides, **call)


def test_several_k_and_any_radius_in_one_call():
    include = ("hamming_recall_at_k", "Recall@K", "Recall@2", "precision_at_radius_7")
    found = judged(*SIDES, include=include, options={"k": (1, 10)})
    items, hits = hamming_histograms(*SIDES)
    expected = {
        "hamming_recall_at_1": recall_at_k(items, hits, 1),
        "hamming_recall_at_10": recall_at_k(items, hits, 10),
        "Recall@1": hit_rate_at_k(items, hits, 1),
        "Recall@10": hit_rate_at_k(items, hits, 10),
        "Recall@2": hit_rate_at_k(items, hits, 2),
        "precision_at_radius_7": precision_within_radius(items, hits, 7),
    }
    assert found == pytest.approx({name: v.mean().item() for name, v in expected.items()})
    default = HammingAccuracyCalculator(k=[5, 50], device=CPU).get_accuracy(*SIDES)
    assert {"hamming_map_at_5", "hamming_map_at_50"} <= set(default)


def test_classes_as_keys():
    labels = torch.tensor([7, 7, 7, 2**40, 2**40, 5, 5, 5, 5])
    found = judged(
        Q, labels, R, Z + 5, include=("hamming_mrr",), options={"return_per_class": "dict"}
    )["hamming_mrr"]
    values = tie_aware_reciprocal_rank(*hamming_histograms(Q, labels, R, Z + 5))
    expected = mean_by_class(values, labels)
    assert list(found) == [5, 7, 2**40]
    assert found == pytest.approx(expected, nan_ok=True)
    assert math.isnan(found[2**40])  # PML's list would have left this class out


def test_pairs_are_left_out():
    groups = torch.arange(60) % 5
    mask = groups[:9, None] == groups
    both = [
        judged(R[:9], Z[:9], R, Z, ref_includes_query=True, exclude_pairs=exclude)
        for exclude in (mask, (groups[:9], groups))
    ]
    assert both[0] == both[1]
    assert both[0] != judged(R[:9], Z[:9], R, Z, ref_includes_query=True)


ROWS = torch.nn.functional.one_hot(Z, 3)
RELU, SIGMOID = torch.randn(60, 12).relu(), torch.randn(60, 12).sigmoid()
BITS = (R > 0).long()


@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        (BITS, ValueError, r"bits of 0 and 1, .* 2 \* bits - 1"),
        (BITS.float(), ValueError, "bits of 0 and 1"),
        (BITS.double().numpy(), ValueError, "bits of 0 and 1"),
        (R > 0, TypeError, r"are bool: pass 2 \* embeddings.float\(\) - 1"),
        (pack_codes(R), TypeError, r"unpack_codes\(packed, bits\)"),
        (BITS.byte(), TypeError, "byte a bit"),
        (RELU, ValueError, "never negative .* ReLU or sigmoid"),
        (SIGMOID, ValueError, "never negative"),
        (SIGMOID.half(), ValueError, "never negative"),
        (R * torch.nan, ValueError, "NaN"),
        (R.to(torch.complex64), ValueError, "real numbers"),
        (R[0], ValueError, r"shape \(N, K\)"),
    ],
)
def test_outputs_without_a_sign(outputs, error, message):
    with pytest.raises(error, match=message):
        judged(outputs, Z)


@pytest.mark.parametrize(
    "outputs", [R, R.long(), R.bfloat16(), SIGMOID - 0.5, torch.ones(60, 12), R[:1] * 1e-9]
)
def test_outputs_that_are_right(outputs):
    labels = Z[: len(outputs)]
    if len(outputs) > 1:
        assert 0 <= judged(outputs, labels)["hamming_map"] <= 1
    else:
        assert 0 <= judged(outputs, labels, R, Z)["hamming_map"] <= 1


def test_strings_and_hashes():
    with pytest.raises(TypeError, match=r"query labels .*LabelMap"):
        judged(R, ["owl"] * 60)
    hashes = np.array([2**63 + 1, 2**63 + 2, 5], dtype=np.uint64)[Z.numpy()]
    assert judged(R, hashes) == judged(R, Z)


def test_a_plain_tester_on_multi_hot_rows_warns():
    rows = torch.stack([Z == 0, Z <= 1, Z >= 1], 1).long()
    data = {"val": TensorDataset(R, rows)}
    model = torch.nn.Identity()
    options = {"dataloader_num_workers": 0, "data_device": CPU, "batch_size": 16}
    plain = hash_tester(
        accuracy_calculator=HammingAccuracyCalculator(device=CPU), **options
    )
    with pytest.warns(UserWarning, match=r"one column of 3.*multilabel\(Trainer\)"):
        found = plain.test(data, 0, model)
    whole = hash_tester(multilabel(GlobalEmbeddingSpaceTester), **options)
    expected = whole.test(data, 0, model)["val"]["hamming_map_levelall"]
    assert found["val"]["hamming_map_level0"] != pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: HammingAccuracyCalculator("hamming_map"), TypeError, "tuples of names"),
        (lambda: HammingAccuracyCalculator(k=2.5), TypeError, "whole number; got 2.5"),
        (lambda: HammingAccuracyCalculator(k=True), TypeError, "got True"),
        (lambda: HammingAccuracyCalculator(k=(1, 0)), ValueError, "k must be >= 1"),
        (lambda: HammingAccuracyCalculator(k=()), ValueError, "got none"),
        (lambda: HammingAccuracyCalculator(k="all"), ValueError, "max_bin_count"),
        (lambda: HammingAccuracyCalculator(max_bytes=5), ValueError, "max_bytes"),
        (lambda: HammingAccuracyCalculator(max_bytes=2e9), TypeError, "whole number"),
        (lambda: HammingAccuracyCalculator(grades=1), ValueError, "grades must be >= 2"),
        (
            lambda: HammingAccuracyCalculator(return_per_class="list"),
            ValueError,
            "return_per_class must be one of False, True, dict",
        ),
        (lambda: judged(*SIDES, include=("precision_at_radius_x",)), ValueError, "one or"),
        (
            lambda: judged(
                *SIDES, include=("AMI",), exclude_pairs=torch.zeros(9, 60).bool()
            ),
            NotImplementedError,
            "AMI: PML's metrics know neither exclude_pairs",
        ),
        (lambda: judged(Q, Y, R, ROWS), ValueError, "of one kind"),
        (lambda: judged(Q, Y[:, None], R, Z[:, None]), ValueError, "are a column"),
        (lambda: judged(Q, Y + 0.5, R, Z), ValueError, "whole numbers"),
        (lambda: judged(R, ROWS * 0.9 + 0.02), ValueError, "soft or smoothed rows"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
