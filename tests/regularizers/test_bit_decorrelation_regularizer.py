import pytest
import torch
from scipy.linalg import hadamard

from pml_nmlayer.regularizers import BitDecorrelationRegularizer
from tests import naive


def test_equals_loop(dtype, device):
    u = torch.randn(7, 5, dtype=dtype, device=device)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    expected = naive.bit_decorrelation_regularizer(u.tolist())
    assert BitDecorrelationRegularizer()(u).item() == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_zero_exactly_at_hadamard_columns(scale):
    u = scale * torch.tensor(hadamard(16), dtype=torch.float32)[:, :12]
    assert BitDecorrelationRegularizer()(u).item() == 0
    u[:, 1] = u[:, 0]
    assert BitDecorrelationRegularizer()(u).item() > 0


def test_equal_or_opposite_bits_cost_one_whatever_the_length():
    column = torch.tensor([[1.0], [-1.0], [1.0], [1.0]])
    for bits in (2, 24):
        signs = torch.where(torch.arange(bits) % 2 == 0, 1.0, -1.0)
        assert BitDecorrelationRegularizer()(column * signs).item() == pytest.approx(1)


def test_a_single_bit_is_free():
    assert BitDecorrelationRegularizer()(torch.randn(4, 1)).item() == 0
