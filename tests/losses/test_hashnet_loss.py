import pytest
import torch
from pytorch_metric_learning.distances import LpDistance

from pml_nmlayer.losses.hashnet_loss import HashNetLoss
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
    loss = HashNetLoss(alpha=7.0, balanced=balanced)(u, labels)
    expected = naive.hashnet(u.tolist(), labels.tolist(), 7.0, 1.0, balanced, graded=False)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(loss.item(), expected, rtol=tolerance, atol=tolerance)
    loss.backward()
    assert torch.isfinite(u.grad).all()


@both_labels
def test_paper_preset_weighs_each_kind_by_one_and_similar_pairs_by_jaccard(labels):
    u = torch.randn(6, 13, dtype=torch.float64)
    loss = HashNetLoss(preset="paper")(u, labels)
    expected = 2 * naive.hashnet(u.tolist(), labels.tolist(), 10.0, 1.0, True, graded=True)
    # Grades such as 1/3 are float32.
    torch.testing.assert_close(loss.item(), expected, rtol=1e-6, atol=1e-6)
    plain = 2 * HashNetLoss()(u, labels)
    assert (loss == plain) == (labels.ndim == 1)
    torch.testing.assert_close(2 * HashNetLoss(similarity="jaccard")(u, labels), loss)


def test_beta_follows_the_number_of_training_batches():
    loss, u = HashNetLoss(beta_growth=0.5, beta_interval=3), torch.randn(6, 8)
    betas = []
    for _ in range(7):
        value = loss(u, LABELS)
        betas.append(loss.beta(torch.float64).item() ** 2)
        expected = naive.hashnet(
            u.tolist(), LABELS.tolist(), 10.0, betas[-1] ** 0.5, True, graded=False
        )
        torch.testing.assert_close(value.item(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        betas, [1.0, 1.0, 2.5, 2.5, 2.5, 4.0, 4.0], rtol=1e-12, atol=0
    )
    assert loss.batches.item() == 7


def test_evaluation_and_empty_batches_do_not_count():
    loss = HashNetLoss().eval()
    loss(torch.randn(6, 8), LABELS)
    loss.train()(torch.randn(0, 8), LABELS[:0])
    assert loss.batches.item() == 0


def test_state_dict_carries_beta():
    loss, u = HashNetLoss(beta_interval=2), torch.randn(6, 8)
    for _ in range(5):
        loss(u, LABELS)
    other = HashNetLoss(beta_interval=2)
    other.load_state_dict(loss.state_dict())
    assert list(loss.state_dict()) == ["batches"]
    torch.testing.assert_close(other.beta(), loss.beta(), rtol=0, atol=0)
    torch.testing.assert_close(other.eval()(u, LABELS), loss.eval()(u, LABELS))
    assert (other.beta() > 1).item()


def test_does_not_depend_on_the_number_of_bits():
    u = torch.randn(6, 8)
    torch.testing.assert_close(
        HashNetLoss()(u.repeat(1, 3), LABELS), HashNetLoss()(u, LABELS)
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
    [(PUBLIC_LABELS, 0.7365965643519748), (PUBLIC_MULTI_HOT, 2.966963910535214)],
    ids=["class ids", "multi-hot"],
)
def test_equals_official_code(labels, value):
    # thuml/HashNet, pytorch/src/loss.py, pairwise_loss_updated of two batches of tanh
    # outputs: θ = ⟨h, h'⟩, so alpha = K here; no c_ij; both kinds of pairs weigh 1.
    u = public_input(12)
    loss = HashNetLoss(alpha=12.0)(u[:3], labels[:3], ref_emb=u[3:], ref_labels=labels[3:])
    torch.testing.assert_close(2 * loss.item(), value, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("labels", "value"),
    [(PUBLIC_LABELS, 1.1667341668871176), (PUBLIC_MULTI_HOT, 1.3989226382001998)],
    ids=["class ids", "multi-hot"],
)
def test_equals_public_code(labels, value):
    # swuxyj/DeepHash-pytorch, HashNet.py: θ = 0.1 ⟨h, h'⟩; an item is paired with itself
    # there, so the batch is given as a reference set here.
    u = public_input(12)
    loss = HashNetLoss(alpha=0.1 * 12)(u, labels, ref_emb=u.clone(), ref_labels=labels)
    torch.testing.assert_close(2 * loss.item(), value, rtol=1e-10, atol=0)


@pytest.mark.parametrize("similarity", ["shared", "jaccard"])
def test_gradcheck(similarity):
    u = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    loss = HashNetLoss(similarity=similarity).eval()  # many calls: β must stay
    assert torch.autograd.gradcheck(lambda x: loss(x, MULTI_HOT), u)


def test_jaccard_needs_labels_beside_pairs():
    pairs = tuple(torch.tensor([row]) for row in (0, 1, 0, 2))
    with pytest.raises(ValueError, match="'jaccard' needs labels"):
        HashNetLoss(similarity="jaccard")(torch.randn(3, 8), None, pairs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HashNetLoss(alpha=0), "alpha must be > 0"),
        (lambda: HashNetLoss(beta_growth=-1), "beta_growth must be >= 0"),
        (lambda: HashNetLoss(beta_interval=0), "beta_interval must be >= 1"),
        (lambda: HashNetLoss(similarity="cosine"), "similarity must be 'shared'"),
        (lambda: HashNetLoss(distance=LpDistance()), "needs a similarity"),
        (lambda: HashNetLoss(preset="papier"), "preset must be None or 'paper'"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
