import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss
from pytorch_metric_learning.regularizers import LpRegularizer

from pml_nmlayer.regularizers import (
    BitBalanceRegularizer,
    BitDecorrelationRegularizer,
    QuantizationRegularizer,
    WeightedSumRegularizer,
)
from tests.compatibility import record


def test_is_the_weighted_sum_with_regularizers_of_pml_too(dtype):
    u = torch.randn(6, 8, dtype=dtype)
    parts = [QuantizationRegularizer(), BitDecorrelationRegularizer(), LpRegularizer()]
    total = WeightedSumRegularizer(parts, weights=[0.1, 2, 0])
    torch.testing.assert_close(total(u), 0.1 * parts[0](u) + 2 * parts[1](u))
    plain = WeightedSumRegularizer(parts)
    torch.testing.assert_close(plain(u), parts[0](u) + parts[1](u) + parts[2](u))


def test_can_be_nested():
    u = torch.randn(6, 8)
    inner = WeightedSumRegularizer([BitBalanceRegularizer()], weights=[3])
    outer = WeightedSumRegularizer([inner, BitBalanceRegularizer()])
    torch.testing.assert_close(outer(u), 4 * BitBalanceRegularizer()(u))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([],), "at least one regularizer"),
        (([torch.nn.Identity()],), "must subclass .*BaseRegularizer, got Identity"),
        (([BitBalanceRegularizer()], [1, 2]), r"must be 1 numbers >= 0.*got \[1, 2\]"),
        (([BitBalanceRegularizer()], [-1]), r">= 0, one a regularizer, got \[-1\]"),
    ],
)
def test_bad_input(args, message):
    with pytest.raises(ValueError, match=message):
        WeightedSumRegularizer(*args)


def test_pml_can_log_it():
    parts = [QuantizationRegularizer(), BitBalanceRegularizer()]
    record(SupConLoss(embedding_regularizer=WeightedSumRegularizer(parts)))
