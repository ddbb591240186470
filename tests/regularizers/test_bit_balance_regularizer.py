import pytest
import torch

from pml_nmlayer.regularizers import BitBalanceRegularizer
from tests import naive


def test_equals_loop(dtype, device):
    u = torch.randn(7, 5, dtype=dtype, device=device)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    expected = naive.bit_balance_regularizer(u.tolist())
    assert BitBalanceRegularizer()(u).item() == pytest.approx(expected, rel=tolerance)


def test_zero_exactly_when_every_column_is_balanced():
    half = torch.where(torch.rand(5, 12) < 0.5, 1.0, -1.0)
    batch = torch.cat([half, -half])
    assert BitBalanceRegularizer()(batch).item() == 0
    batch[0, 0] = -batch[0, 0]
    assert BitBalanceRegularizer()(batch).item() > 0


def test_constant_bits_cost_one_whatever_the_length():
    for bits in (1, 24, 64):
        assert BitBalanceRegularizer()(torch.ones(4, bits)).item() == 1
