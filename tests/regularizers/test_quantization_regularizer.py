import pytest
import torch
from pytorch_metric_learning.reducers import ThresholdReducer

from pml_nmlayer.codes import binarize
from pml_nmlayer.regularizers import QuantizationRegularizer
from tests import naive

KINDS = ["l1", "l2", "cubic", "log_cosh"]


@pytest.mark.parametrize("kind", KINDS)
def test_equals_loop(kind, dtype, device):
    u = 2 * torch.randn(7, 5, dtype=dtype, device=device)
    u[0, 0] = 0
    value = QuantizationRegularizer(kind)(u).item()
    expected = naive.quantization_regularizer(u.tolist(), kind)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    assert value == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_exactly_at_codes(kind):
    assert QuantizationRegularizer(kind)(binarize(torch.randn(6, 9))).item() == 0
    assert QuantizationRegularizer(kind)(torch.full((2, 2), 0.9)).item() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_of_zero_moves_towards_plus_one(kind):
    u = torch.zeros(1, 1, requires_grad=True)
    QuantizationRegularizer(kind)(u).backward()
    assert u.grad.item() < 0


@pytest.mark.parametrize("kind", ["l1", "log_cosh"])
def test_far_outputs_do_not_overflow(kind):
    u = torch.tensor([[1e4, -1e4]], requires_grad=True)
    value = QuantizationRegularizer(kind)(u)
    value.backward()
    # log cosh r -> |r| - log 2
    expected = 9999.0 - (0.6931472 if kind == "log_cosh" else 0)
    torch.testing.assert_close(value.item(), expected)
    assert torch.isfinite(u.grad).all()


def test_a_reducer_sees_one_value_an_item():
    u = torch.tensor([[1.0, 1.0], [1.0, 0.0]])  # 0 and 0.5
    above = QuantizationRegularizer(reducer=ThresholdReducer(low=0.1))
    assert above(u).item() == 0.5
    assert QuantizationRegularizer()(u).item() == 0.25


def test_unknown_kind():
    with pytest.raises(ValueError, match=r"kind must be one of .*'log_cosh'.*, got 'l3'"):
        QuantizationRegularizer("l3")
