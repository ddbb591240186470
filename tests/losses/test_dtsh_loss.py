import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.miners import TripletMarginMiner
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from pml_nmlayer.losses.dtsh_loss import DTSHLoss
from tests import naive

LABELS = torch.tensor([0, 0, 1, 1, 2, 0])
MULTI_HOT = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0], [1, 0, 0]])
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
both_labels = pytest.mark.parametrize(
    "labels", [LABELS, MULTI_HOT], ids=["class ids", "multi-hot"]
)


@both_labels
def test_equals_loop(labels, dtype, device):
    u = torch.randn(6, 13, dtype=dtype, device=device, requires_grad=True)
    loss = DTSHLoss(margin=0.25, quantization_weight=0.3)(u, labels)
    expected = naive.dtsh(u.tolist(), labels.tolist(), 0.25, 0.3)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(loss.item(), expected, rtol=tolerance, atol=tolerance)
    loss.backward()
    assert torch.isfinite(u.grad).all()


@pytest.mark.parametrize("bits", [12, 48])
def test_paper_preset_sums_the_pull_over_bits(bits):
    u = torch.randn(6, bits, dtype=torch.float64)
    loss = DTSHLoss(preset="paper")(u, LABELS)
    expected = naive.dtsh(u.tolist(), LABELS.tolist(), 0.5, bits / 225)
    torch.testing.assert_close(loss.item(), expected, rtol=1e-10, atol=0)
    # What is given beside the preset holds: a weight of the mean, as without the preset.
    torch.testing.assert_close(
        DTSHLoss(margin=0.3, quantization_weight=0.3, preset="paper")(u, LABELS),
        DTSHLoss(margin=0.3, quantization_weight=0.3)(u, LABELS),
    )


def test_margin_grows_with_bits_where_public_ports_keep_5():
    # swuxyj/DeepHash-pytorch and CISiPLab/cisip-FIRe keep α = 5 and θ = ⟨u, u'⟩ at every
    # K; the authors' code has α = K / 2 and θ = ½⟨u, u'⟩. At u = 0 the loss is sp(α).
    for bits in (12, 48):
        loss = DTSHLoss(margin=0.5, quantization_weight=0)(
            torch.zeros(3, bits), LABELS[[0, 1, 2]]
        )
        expected = naive.softplus(bits / 2)
        torch.testing.assert_close(loss.item(), expected, rtol=1e-6, atol=0)
        default = DTSHLoss(quantization_weight=0)(torch.zeros(3, bits), LABELS[[0, 1, 2]])
        expected = naive.softplus(bits / 4)
        torch.testing.assert_close(default.item(), expected, rtol=1e-6, atol=0)


def test_an_item_is_not_its_own_positive():
    # The ports above count (i, i, n), whose θ_ii is the largest: a triplet for nothing.
    u = torch.randn(3, 8, requires_grad=True)
    loss = DTSHLoss()(u, torch.tensor([0, 1, 2]))
    loss.backward()
    assert loss.item() == 0
    assert not u.grad.any()


def test_equals_authors_formula():
    # Minione/DTSH, train_triplet.m, its lines for loss and qloss run in numpy on all 24
    # triplets of this batch, margin K / 2: likelihood, and squares summed over bits.
    likelihood, squares = 2.146319189259183, 2.6134164431317717
    u = 1.5 * torch.sin(torch.arange(1, 73, dtype=torch.float64)).view(6, 12)
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    torch.testing.assert_close(
        DTSHLoss(margin=0.5, quantization_weight=0)(u, y).item(),
        likelihood,
        rtol=1e-10,
        atol=0,
    )
    both = DTSHLoss(preset="paper")(u, y).item()
    torch.testing.assert_close(both, likelihood + squares / 225, rtol=1e-10, atol=0)


def test_gradcheck():
    u = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: DTSHLoss()(x, LABELS[:5]), u)


def test_triplets_and_pairs_of_a_miner(dtype):
    u = torch.randn(6, 8, dtype=dtype)
    loss = DTSHLoss(margin=0.5, quantization_weight=0)
    every = loss(u, LABELS)
    torch.testing.assert_close(loss(u, None, lmu.get_all_triplets_indices(LABELS)), every)
    torch.testing.assert_close(loss(u, None, lmu.get_all_pairs_indices(LABELS)), every)
    # Few triplets: mean by anchor, then over the two anchors that have one.
    triplets = tuple(torch.tensor(rows) for rows in ([0, 0, 2], [1, 5, 3], [2, 4, 0]))
    theta = 0.5 * u @ u.T
    terms = [
        naive.softplus(4 - (theta[a, p] - theta[a, n]).item())
        for a, p, n in zip(*(rows.tolist() for rows in triplets), strict=True)
    ]
    expected = ((terms[0] + terms[1]) / 2 + terms[2]) / 2
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(
        loss(u, LABELS, triplets).item(), expected, rtol=tolerance, atol=tolerance
    )
    hard = TripletMarginMiner(margin=0.1)(u, LABELS)
    assert torch.isfinite(loss(u, LABELS, hard))


def test_empty_triplets_of_a_miner_are_exactly_zero():
    u = torch.randn(6, 8, requires_grad=True)
    loss = DTSHLoss()(u, LABELS, tuple(torch.zeros(3, 0, dtype=torch.long)))
    loss.backward()
    assert loss.item() == 0
    assert not u.grad.any()


def test_reference_set(dtype):
    u, ref = torch.randn(4, 8, dtype=dtype), torch.randn(3, 8, dtype=dtype)
    y, ref_y = LABELS[:4], torch.tensor([0, 1, 2])
    loss = DTSHLoss(quantization_weight=0)
    triplets = [
        (i, 4 + p, 4 + n)
        for i in range(4)
        for p in range(3)
        for n in range(3)
        if ref_y[p] == y[i] and ref_y[n] != y[i]
    ]
    joint = loss(torch.cat([u, ref]), None, tuple(torch.tensor(triplets).T))
    # The joint batch has no triplets anchored in the reference set: the mean is the same.
    torch.testing.assert_close(loss(u, y, ref_emb=ref, ref_labels=ref_y), joint)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DTSHLoss(margin=1), r"margin is per bit, in \[0, 1\)"),
        (lambda: DTSHLoss(margin=5), "got 5"),
        (lambda: DTSHLoss(quantization_weight=-1), "quantization_weight must be >= 0"),
        (lambda: DTSHLoss(distance=LpDistance()), "needs a similarity"),
        (lambda: DTSHLoss(preset="papier"), "preset must be None or 'paper'"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
