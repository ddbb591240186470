import pytest
import torch
from pytorch_metric_learning.distances import LpDistance

from pml_nmlayer.losses.mihash_loss import MIHashLoss
from tests import naive

LABELS = torch.tensor([0, 0, 1, 1, 2, 0])
MULTI_HOT = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0], [1, 0, 0]])
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
both_labels = pytest.mark.parametrize(
    "labels", [LABELS, MULTI_HOT], ids=["class ids", "multi-hot"]
)


@both_labels
@pytest.mark.parametrize("bits", [1, 12, 13, 24])
@pytest.mark.parametrize("bins", [None, 5])
def test_equals_loop(labels, bits, bins, dtype, device):
    u = torch.randn(6, bits, dtype=dtype, device=device, requires_grad=True)
    loss = MIHashLoss(sharpness=1.5, bins=bins)(u, labels)
    bins = bins or max(1, bits // 2)
    expected = naive.mihash(u.tolist(), labels.tolist(), bins, 1.5, keep_codes=True)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(loss.item(), expected, rtol=tolerance, atol=tolerance)
    loss.backward()
    assert torch.isfinite(u.grad).all()


def test_paper_preset_is_a_plain_tanh_of_half_the_output(dtype):
    u = torch.randn(6, 13, dtype=dtype)
    loss = MIHashLoss(preset="paper")(u, LABELS)
    expected = naive.mihash(u.tolist(), LABELS.tolist(), 6, 0.5, keep_codes=False)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(loss.item(), expected, rtol=tolerance, atol=tolerance)


def public_input(bits):
    """Six items; public implementations were run on the same float64 numbers."""
    return 1.5 * torch.sin(torch.arange(1, 6 * bits + 1, dtype=torch.float64)).view(6, bits)


PUBLIC_LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
PUBLIC_MULTI_HOT = torch.tensor(
    [[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 0, 0]]
)


@pytest.mark.parametrize(
    ("bits", "bins", "labels", "information"),
    [
        (12, 6, PUBLIC_LABELS, 0.11506723995185207),
        (12, 6, PUBLIC_MULTI_HOT, 0.04103372819955895),
        (13, 6, PUBLIC_LABELS, 0.06037467107008767),
        (13, 6, PUBLIC_MULTI_HOT, 0.02677930101914285),
        (24, 12, PUBLIC_LABELS, 0.22953723827105496),
        (24, 12, PUBLIC_MULTI_HOT, 0.1670413938284592),
        (12, 12, PUBLIC_LABELS, 0.2851338507990215),
        (12, 12, PUBLIC_MULTI_HOT, 0.11464865960827175),
    ],
)
def test_equals_authors_formula(bits, bins, labels, information):
    # fcakir/deep-mihash, mi_forward.m with sigmf 1, run in numpy; over the six anchors.
    loss = MIHashLoss(bins=bins, preset="paper")(public_input(bits), labels)
    torch.testing.assert_close(-loss.item(), information, rtol=1e-10, atol=0)


def test_informative_codes_lose_less_where_a_public_port_has_the_sign_wrong():
    # CISiPLab/cisip-FIRe returns +I and minimises it. Two well separated classes know all
    # about being similar, so the loss must be the lowest there is: minus the entropy of
    # one similar item in three.
    codes = torch.tensor([[1.0] * 12, [1.0] * 12, [-1.0] * 12, [-1.0] * 12])
    y = torch.tensor([0, 0, 1, 1])
    best = MIHashLoss()(codes, y).item()
    torch.testing.assert_close(best, -0.9182958340544896, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        MIHashLoss()(torch.ones(4, 12), y).item(), 0.0, rtol=0, atol=1e-6
    )
    assert best < MIHashLoss()(torch.randn(4, 12), y).item() < 0


@pytest.mark.parametrize("bits", [12, 13, 24])
def test_distances_up_to_all_bits_are_counted(bits):
    # The same port has bins of K // 16: width 0 below 16 bits, and at K = 24 the upper
    # third of all distances lies outside. One similar and one dissimilar item at distance
    # K and K - 4 must be told apart, and the other way round alike.
    low = torch.ones(bits)
    low[4:] = -1
    codes = torch.stack([torch.ones(bits), -torch.ones(bits), low])
    anchor = tuple(torch.tensor([row]) for row in (0, 1, 0, 2))
    loss = MIHashLoss(bins=bits)(codes, None, anchor)
    torch.testing.assert_close(loss.item(), -1.0, rtol=1e-6, atol=0)


def test_gradcheck():
    u = 0.3 * torch.randn(5, 6, dtype=torch.float64)
    u = u.clamp(-0.9, 0.9).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: MIHashLoss()(x, LABELS[:5]), u)


def test_saturated_outputs_keep_the_gradient_of_the_tanh():
    u = torch.tensor([[1.5, 0.4], [0.3, -1.2], [-1.1, 0.6]], dtype=torch.float64)
    u.requires_grad_()
    y = torch.tensor([0, 0, 1])
    MIHashLoss(sharpness=2.0)(u, y).backward()
    assert (u.grad[u.detach().abs() > 1] != 0).all()


def test_anchors_with_one_kind_of_pairs_are_left_out():
    u = torch.randn(5, 8, dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1, 2])  # the last item has no similar one
    expected = naive.mihash(u.tolist(), y.tolist(), 4, 3.0, keep_codes=True)
    torch.testing.assert_close(MIHashLoss()(u, y).item(), expected, rtol=1e-10, atol=0)
    assert MIHashLoss()(u, torch.zeros(5, dtype=torch.long)).item() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MIHashLoss(sharpness=0), "sharpness must be > 0"),
        (lambda: MIHashLoss(bins=0), "bins must be >= 1"),
        (lambda: MIHashLoss(preset="papier"), "preset must be None or 'paper'"),
        (lambda: MIHashLoss(distance=LpDistance()), "leave out distance=LpDistance"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
