import pytest
import torch
from pytorch_metric_learning.distances import LpDistance

from pml_nmlayer.losses.dfh_loss import DFHLoss
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
    weights = (0.3, 0.8, 0.6)
    names = ("quantization_weight", "center_weight", "separation_weight")
    given = dict(zip(names, weights, strict=True))
    loss = DFHLoss(margin=0.1, **given, balanced=balanced)(u, labels)
    expected = naive.dfh(u.tolist(), labels.tolist(), 0.1, weights, balanced, graded=False)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(loss.item(), expected, rtol=tolerance, atol=tolerance)
    loss.backward()
    assert torch.isfinite(u.grad).all()


@both_labels
def test_jaccard_targets_equal_loop(labels):
    u = torch.randn(6, 13, dtype=torch.float64)
    loss = DFHLoss(margin=0.1, similarity="jaccard")(u, labels)
    weights = (0.5, 1.0, 1.0)
    expected = naive.dfh(u.tolist(), labels.tolist(), 0.1, weights, True, graded=True)
    # Grades such as 1/3 are float32.
    torch.testing.assert_close(loss.item(), expected, rtol=1e-6, atol=1e-6)
    plain = DFHLoss(margin=0.1)(u, labels)
    assert (loss == plain) == (labels.ndim == 1)


@both_labels
@pytest.mark.parametrize("size", [6, 24])
def test_target_codes_equal_normal_equations(labels, size):
    rows = torch.arange(size) % 6
    u = 0.7 * torch.randn(size, 11, dtype=torch.float64)
    codes = DFHLoss().target_codes(u, labels[rows])
    expected = naive.dfh_codes(u.tolist(), labels[rows].tolist(), 1.0, 1.0)
    torch.testing.assert_close(codes.tolist(), expected, rtol=0, atol=0)


def test_class_ids_equal_one_hot_rows():
    u, y = 0.7 * torch.randn(20, 16), torch.randint(0, 5, (20,))
    one_hot = torch.nn.functional.one_hot(y, 9)  # four classes are not in the batch
    torch.testing.assert_close(
        DFHLoss().target_codes(u, 1000 * y),
        DFHLoss().target_codes(u, one_hot),
        rtol=0,
        atol=0,
    )


def test_multi_hot_rows_are_divided_by_their_own_label_count():
    # Centres of the two one-label items are +1 and -1 in both bits. The item with both
    # labels gets ½ (+1 - 1) = 0 from them: its own sign stays, however small it is.
    u = torch.tensor([[0.9, 0.9], [-0.9, -0.9], [0.1, -0.1]])
    y = torch.tensor([[1, 0], [0, 1], [1, 1]])
    codes = DFHLoss(separation_weight=0).target_codes(u, y)
    assert codes.tolist() == [[1, 1], [-1, -1], [1, -1]]


def test_centers_draw_stragglers_over_and_separation_parts_classes():
    u = torch.tensor([[0.8], [0.7], [-0.3], [0.2], [0.25], [0.3]])
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    none = DFHLoss(center_weight=0).target_codes(u, y)
    apart = DFHLoss(separation_weight=0).target_codes(u, y)
    both = DFHLoss(separation_weight=10).target_codes(u, y)
    assert none.flatten().tolist() == [1, 1, -1, 1, 1, 1]  # the signs
    assert apart.flatten().tolist() == [1, 1, 1, 1, 1, 1]  # the class majority
    assert both.flatten().tolist() == [1, 1, 1, -1, -1, -1]  # the classes told apart


def test_paper_preset_is_the_plain_mean():
    u = torch.randn(6, 12)
    torch.testing.assert_close(
        DFHLoss(preset="paper")(u, LABELS),
        DFHLoss(balanced=False)(u, LABELS),
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
    ("labels", "margin", "value"),
    [
        (PUBLIC_LABELS, 0.0, 1.3036456014172226),
        (PUBLIC_MULTI_HOT, 0.0, 1.7557655000118702),
        (PUBLIC_LABELS, 3.0, 2.6252377051631615),
        (PUBLIC_MULTI_HOT, 3.0, 3.260730923335379),
    ],
)
def test_first_term_equals_public_code(labels, margin, value):
    # Margin 0: liyunqianggyn/Push-for-Quantization-Deep-Fisher-Hashing, models/DFH_loss.py,
    # eta 0. Margin 3: swuxyj/DeepHash-pytorch, DFH.py, eta 0. Their memories hold just
    # this batch and pair an item with itself: a reference set here.
    u = public_input(12)
    loss = DFHLoss(margin=margin / 12, quantization_weight=0, preset="paper")
    value_here = loss(u, labels, ref_emb=u.clone(), ref_labels=labels).item()
    torch.testing.assert_close(value_here, value, rtol=1e-10, atol=0)


@pytest.mark.parametrize("similarity", ["shared", "jaccard"])
@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_gradcheck(similarity, margin):
    u = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    loss = DFHLoss(margin=margin, similarity=similarity)
    assert torch.autograd.gradcheck(lambda x: loss(x, MULTI_HOT), u)


def test_quantization_gradient_goes_to_the_target_codes():
    u = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    loss = DFHLoss(quantization_weight=0.5)
    pull = loss(u, LABELS) - DFHLoss(quantization_weight=0)(u, LABELS)
    (gradient,) = torch.autograd.grad(pull, u)
    expected = 0.5 * 2 * (u - loss.target_codes(u, LABELS)) / u.numel()
    torch.testing.assert_close(gradient, expected.detach())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DFHLoss(margin=0.5), r"margin is per bit, in \[0, 0.5\)"),
        (lambda: DFHLoss(margin=3), "got 3"),
        (lambda: DFHLoss(quantization_weight=-1), "quantization_weight must be >= 0"),
        (lambda: DFHLoss(center_weight=-1), "center_weight must be >= 0"),
        (lambda: DFHLoss(separation_weight=-1), "separation_weight must be >= 0"),
        (lambda: DFHLoss(similarity="cosine"), "similarity must be 'shared'"),
        (lambda: DFHLoss(distance=LpDistance()), "needs a similarity"),
        (lambda: DFHLoss(preset="papier"), "preset must be None or 'paper'"),
        (lambda: DFHLoss()(torch.randn(5, 8)), "labels are required"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
