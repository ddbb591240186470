import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.miners import MultiSimilarityMiner

from pml_nmlayer.losses import DPSHLoss
from tests import naive

LABELS = torch.tensor([0, 0, 1, 1, 2, 0])
MULTI_HOT = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize("labels", [LABELS, MULTI_HOT], ids=["class ids", "multi-hot"])
@pytest.mark.parametrize("balanced", [True, False])
def test_equals_loop(labels, balanced, dtype, device):
    u = torch.randn(6, 13, dtype=dtype, device=device, requires_grad=True)
    loss = DPSHLoss(quantization_weight=0.3, balanced=balanced)(u, labels)
    expected = naive.dpsh(u.tolist(), labels.tolist(), 0.3, balanced)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(loss.item(), expected, rtol=tolerance, atol=tolerance)
    loss.backward()
    assert torch.isfinite(u.grad).all()


def test_paper_preset_is_the_plain_mean():
    u = torch.randn(6, 12)
    torch.testing.assert_close(
        DPSHLoss(preset="paper")(u, LABELS),
        DPSHLoss(balanced=False)(u, LABELS),
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize("balanced", [True, False])
def test_gradcheck(balanced):
    u = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    loss = DPSHLoss(balanced=balanced)
    assert torch.autograd.gradcheck(lambda x: loss(x, LABELS[:5]), u)


def test_pairs_of_a_miner_and_a_reference_set():
    u, ref = torch.randn(4, 8), torch.randn(3, 8)
    y, ref_y = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2])
    together = DPSHLoss(quantization_weight=0, balanced=False)(
        u, y, ref_emb=ref, ref_labels=ref_y
    )
    theta = 0.5 * u @ ref.T
    s = (y[:, None] == ref_y).float()
    expected = (torch.nn.functional.softplus(theta) - s * theta).mean()
    torch.testing.assert_close(together, expected)

    pairs = MultiSimilarityMiner(epsilon=2.0)(u, y)
    expected = DPSHLoss(quantization_weight=0, balanced=False)(u, y)
    torch.testing.assert_close(
        DPSHLoss(quantization_weight=0, balanced=False)(u, y, pairs), expected
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DPSHLoss(quantization_weight=-1), "quantization_weight must be >= 0"),
        (lambda: DPSHLoss(preset="papier"), "preset must be None or 'paper'"),
        (lambda: DPSHLoss(distance=LpDistance()), "needs a similarity"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
