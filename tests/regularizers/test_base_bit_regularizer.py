"""What all regularizers promise, on each of them."""

import pytest
import torch
from pytorch_metric_learning import losses

from pml_nmlayer.losses import DPSHLoss
from pml_nmlayer.regularizers import (
    BitBalanceRegularizer,
    BitDecorrelationRegularizer,
    QuantizationRegularizer,
    WeightedSumRegularizer,
)

KINDS = ["l1", "l2", "cubic", "log_cosh"]
MAKERS = {
    **{f"quantization {k}": lambda k=k: QuantizationRegularizer(k) for k in KINDS},
    "balance": BitBalanceRegularizer,
    "decorrelation": BitDecorrelationRegularizer,
    "sum": lambda: WeightedSumRegularizer(
        [QuantizationRegularizer("l1"), BitBalanceRegularizer()], weights=[0.3, 2.0]
    ),
}
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.fixture(params=MAKERS.values(), ids=MAKERS)
def regularizer(request):
    return request.param()


def test_gradcheck(regularizer):
    u = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(regularizer, u)


def test_does_not_normalise(regularizer):
    u = torch.randn(6, 8)
    assert regularizer(u) != regularizer(torch.nn.functional.normalize(u))


def test_invariant_to_bit_order_and_negation(regularizer):
    u = torch.randn(6, 9)
    changed = u[:, torch.randperm(9)] * torch.where(torch.rand(9) < 0.5, 1.0, -1.0)
    torch.testing.assert_close(regularizer(changed), regularizer(u))


@pytest.mark.parametrize("shape", [(0, 8), (0, 0), (3, 0)])
def test_nothing_to_penalise_is_zero_with_a_gradient(regularizer, shape, dtype):
    u = torch.zeros(shape, dtype=dtype, requires_grad=True)
    value = regularizer(u)
    value.backward()
    assert value.item() == 0
    assert u.grad is not None


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (8, 1)])
def test_single_items_and_bits_are_finite(regularizer, shape):
    u = torch.randn(shape, requires_grad=True)
    regularizer(u).backward()
    assert torch.isfinite(u.grad).all()


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(regularizer, low):
    u = torch.randn(64, 48).to(low)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = regularizer(u)
    torch.testing.assert_close(mixed, regularizer(u.float()), rtol=0, atol=0)


def test_wrong_shape(regularizer):
    with pytest.raises(ValueError, match=r"shape \(B, K\), got \(8,\)"):
        regularizer(torch.randn(8))


@pytest.mark.parametrize(
    "make",
    [
        losses.ContrastiveLoss,
        losses.TripletMarginLoss,
        losses.MultiSimilarityLoss,
        losses.NTXentLoss,
        lambda **kwargs: losses.ArcFaceLoss(3, 8, **kwargs),
        lambda **kwargs: losses.ProxyAnchorLoss(3, 8, **kwargs),
        DPSHLoss,
    ],
    ids=["contrastive", "triplet", "multi", "ntxent", "arcface", "proxy anchor", "dpsh"],
)
def test_adds_to_a_pml_loss(regularizer, make):
    u = torch.randn(6, 8, requires_grad=True)
    torch.manual_seed(1)  # losses with class weights draw them
    plain = make()(u, LABELS)
    torch.manual_seed(1)
    loss = make(embedding_regularizer=regularizer, embedding_reg_weight=0.5)
    total = loss(u, LABELS)
    torch.testing.assert_close(total, plain + 0.5 * regularizer(u))
    assert "embedding_reg_loss" in loss.sub_loss_names()
    total.backward()
    assert torch.isfinite(u.grad).all()
