import pytest
import torch
from pytorch_metric_learning.distances import LpDistance

from pml_nmlayer.losses.dhn_loss import DHNLoss
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
    loss = DHNLoss(quantization_weight=0.3, balanced=balanced)(u, labels)
    expected = naive.dhn(u.tolist(), labels.tolist(), 0.3, balanced, graded=False)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(loss.item(), expected, rtol=tolerance, atol=tolerance)
    loss.backward()
    assert torch.isfinite(u.grad).all()


@both_labels
def test_jaccard_targets_equal_loop(labels):
    u = torch.randn(6, 13, dtype=torch.float64)
    loss = DHNLoss(quantization_weight=0.3, similarity="jaccard")(u, labels)
    expected = naive.dhn(u.tolist(), labels.tolist(), 0.3, True, graded=True)
    # Grades such as 1/3 are float32.
    torch.testing.assert_close(loss.item(), expected, rtol=1e-6, atol=1e-6)
    plain = DHNLoss(quantization_weight=0.3)(u, labels)
    assert (loss == plain) == (labels.ndim == 1)


def test_paper_preset_is_the_plain_mean():
    u = torch.randn(6, 12)
    torch.testing.assert_close(
        DHNLoss(preset="paper")(u, LABELS),
        DHNLoss(balanced=False)(u, LABELS),
        rtol=0,
        atol=0,
    )


def public_input(bits):
    """Six items; public implementations were run on the same float64 numbers."""
    return 1.5 * torch.sin(torch.arange(1, 6 * bits + 1, dtype=torch.float64)).view(6, bits)


PUBLIC_LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
PUBLIC_MULTI_HOT = torch.tensor(
    [[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 0, 0]]
)


@pytest.mark.parametrize(
    ("labels", "value"),
    [(PUBLIC_LABELS, 1.313810687839003), (PUBLIC_MULTI_HOT, 1.7659305864336505)],
    ids=["class ids", "multi-hot"],
)
def test_equals_public_code(labels, value):
    # swuxyj/DeepHash-pytorch, DHN.py, with a memory that holds just this batch: pairs of
    # an item with itself count there, so the batch is given as a reference set here.
    u = public_input(12)
    loss = DHNLoss(preset="paper")(u, labels, ref_emb=u.clone(), ref_labels=labels)
    torch.testing.assert_close(loss.item(), value, rtol=1e-10, atol=0)


def test_log_cosh_does_not_overflow():
    u = torch.full((2, 4), 1e4, requires_grad=True)
    y = torch.tensor([0, 1])
    loss = DHNLoss(quantization_weight=1.0)(u, y) - DHNLoss(quantization_weight=0)(u, y)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(u.grad).all()


@pytest.mark.parametrize("similarity", ["shared", "jaccard"])
def test_gradcheck(similarity):
    u = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    loss = DHNLoss(similarity=similarity)
    assert torch.autograd.gradcheck(lambda x: loss(x, MULTI_HOT), u)


def test_jaccard_grades_the_pairs_of_a_miner():
    u = torch.randn(6, 8)
    loss = DHNLoss(similarity="jaccard")
    similar = MULTI_HOT @ MULTI_HOT.T > 0
    off = ~torch.eye(6, dtype=torch.bool)
    pairs = (*torch.where(similar & off), *torch.where(~similar & off))
    torch.testing.assert_close(loss(u, MULTI_HOT, pairs), loss(u, MULTI_HOT))
    with pytest.raises(ValueError, match="'jaccard' needs labels"):
        loss(u, None, pairs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DHNLoss(quantization_weight=-1), "quantization_weight must be >= 0"),
        (lambda: DHNLoss(similarity="cosine"), "similarity must be 'shared'"),
        (lambda: DHNLoss(distance=LpDistance()), "needs a similarity"),
        (lambda: DHNLoss(preset="papier"), "preset must be None or 'paper'"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
