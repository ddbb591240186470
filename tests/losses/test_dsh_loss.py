import pytest
import torch
from pytorch_metric_learning.distances import DotProductSimilarity

from pml_nmlayer.losses.dsh_loss import DSHLoss
from tests import naive

LABELS = torch.tensor([0, 0, 1, 1, 2, 0])
MULTI_HOT = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0], [1, 0, 0]])
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
both_labels = pytest.mark.parametrize(
    "labels", [LABELS, MULTI_HOT], ids=["class ids", "multi-hot"]
)


@both_labels
@pytest.mark.parametrize("balanced", [True, False])
def test_equals_loop(labels, balanced, dtype, device):
    u = torch.randn(6, 13, dtype=dtype, device=device, requires_grad=True)
    loss = DSHLoss(margin=1.5, quantization_weight=0.3, balanced=balanced)(u, labels)
    expected = naive.dsh(u.tolist(), labels.tolist(), 1.5, 0.3, balanced, sum_bits=False)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(loss.item(), expected, rtol=tolerance, atol=tolerance)
    loss.backward()
    assert torch.isfinite(u.grad).all()


def test_paper_preset_sums_bits_over_a_plain_mean_of_pairs(dtype):
    u = torch.randn(6, 13, dtype=dtype)
    expected = naive.dsh(u.tolist(), LABELS.tolist(), 2.0, 0.02, False, sum_bits=True)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(
        DSHLoss(preset="paper")(u, LABELS).item(), expected, rtol=tolerance, atol=tolerance
    )


def public_input(bits):
    """Six items; public implementations were run on the same float64 numbers."""
    return 1.5 * torch.sin(torch.arange(1, 6 * bits + 1, dtype=torch.float64)).view(6, bits)


PUBLIC_LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def test_equals_public_code():
    # weixu000/DSH-pytorch, main.py, hashing_loss with m = 2K and alpha 0.01, and with 0;
    # it averages over all 36 pairs, the 6 of an item with itself included, which are 0.
    with_pull, without = 2.4563791685206016, 2.3602864440619262
    u = public_input(12)
    pairs = DSHLoss(quantization_weight=0, preset="paper")(u, PUBLIC_LABELS).item()
    both = DSHLoss(preset="paper")(u, PUBLIC_LABELS).item()
    torch.testing.assert_close(pairs * 30 / 36, without, rtol=1e-10, atol=0)
    torch.testing.assert_close(both - pairs, with_pull - without, rtol=1e-10, atol=0)


def test_does_not_depend_on_the_number_of_bits():
    u = torch.randn(6, 8)
    torch.testing.assert_close(DSHLoss()(u.repeat(1, 3), LABELS), DSHLoss()(u, LABELS))


def test_default_margin_is_half_of_the_bits():
    far = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, -1.0, -1.0]])
    near = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, -1.0]])
    y = torch.tensor([0, 1])
    assert DSHLoss()(far, y).item() < 1e-6
    assert DSHLoss()(near, y).item() > 0.1


@pytest.mark.parametrize("balanced", [True, False])
def test_gradcheck(balanced):
    u = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    loss = DSHLoss(balanced=balanced)
    assert torch.autograd.gradcheck(lambda x: loss(x, LABELS[:5]), u)


def test_equal_items_have_a_finite_gradient():
    u = torch.ones(4, 8, requires_grad=True)
    DSHLoss()(u, LABELS[:4]).backward()
    assert torch.isfinite(u.grad).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DSHLoss(margin=0), "margin must be > 0"),
        (lambda: DSHLoss(quantization_weight=-1), "quantization_weight must be >= 0"),
        (lambda: DSHLoss(preset="papier"), "preset must be None or 'paper'"),
        (lambda: DSHLoss(distance=DotProductSimilarity()), "needs a distance"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
