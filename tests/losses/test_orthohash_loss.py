import math

import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.regularizers import LpRegularizer

from pml_nmlayer.classes.codebooks import hadamard_codebook, maximin_codebook
from pml_nmlayer.losses.orthohash_loss import OrthoHashLoss
from tests import naive

LABELS = torch.tensor([0, 0, 1, 3, 2, 0])
MULTI_HOT = torch.tensor(
    [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
)
BOTH = pytest.mark.parametrize("labels", [LABELS, MULTI_HOT], ids=["ids", "multi-hot"])
TYPES = pytest.mark.parametrize("margin_type", ["cosine", "arc"])
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}

# inputs of the fixtures below: reproducible without a generator
FIXED_U = (1.5 * torch.sin(torch.arange(1.0, 25))).reshape(4, 6)
FIXED_CENTRES = torch.tensor(
    [[-1, -1, 1, -1, -1, 1], [1, -1, 1, 1, -1, 1], [1, -1, 1, 1, -1, -1]]
)
FIXED_MULTI_HOT = torch.tensor([[1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]])


@BOTH
@pytest.mark.parametrize(
    ("margin_type", "scale", "margin"),
    [("cosine", 8.0, 0.2), ("cosine", 3.0, 0.0), ("arc", 8.0, 0.2), ("arc", 2.0, 1.5)],
)
def test_equals_loop(labels, margin_type, scale, margin, dtype, device):
    u = torch.randn(6, 12, dtype=dtype, device=device)
    loss = OrthoHashLoss(4, 12, margin_type=margin_type, scale=scale, margin=margin).to(
        device
    )
    expected = naive.orthohash(
        u.tolist(), labels.tolist(), loss.codebook.tolist(), margin_type, scale, margin
    )
    tol = TOLERANCE[dtype]
    torch.testing.assert_close(loss(u, labels).item(), expected, rtol=tol, atol=tol)


def test_arc_equals_loop_where_the_angle_passes_a_half_turn():
    loss = OrthoHashLoss(4, 12, margin_type="arc", margin=0.5)
    u = (-loss.codebook + 0.1 * torch.randn(4, 12)).double()
    expected = naive.orthohash(
        u.tolist(), [0, 1, 2, 3], loss.codebook.tolist(), "arc", 8.0, 0.5
    )
    torch.testing.assert_close(loss(u, torch.arange(4)).item(), expected)


@BOTH
@TYPES
def test_gradcheck(labels, margin_type):
    u = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    loss = OrthoHashLoss(4, 4, margin_type=margin_type)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), u)


@pytest.mark.parametrize(
    ("margin_type", "for_ids", "for_rows"),
    [("cosine", 2.1766014, 2.6905715), ("arc", 2.1621568, 2.6872907)],
)
def test_values_of_the_authors_code(margin_type, for_ids, for_rows):
    # kamwoh/orthohash, functions/loss/orthohash.py, s = 8, m = 0.2, "label_smoothing"
    loss = OrthoHashLoss(3, 6, margin_type=margin_type, codebook=FIXED_CENTRES)
    value = loss(FIXED_U, torch.tensor([0, 2, 1, 2])).item()
    torch.testing.assert_close(value, for_ids, rtol=1e-5, atol=0)
    value = loss(FIXED_U, FIXED_MULTI_HOT).item()
    torch.testing.assert_close(value, for_rows, rtol=1e-5, atol=0)


@TYPES
def test_outputs_opposite_to_their_centre_are_drawn_back(margin_type):
    # with cos(θ + m) alone, as in the authors' code, the arc loss falls as θ nears π
    loss = OrthoHashLoss(2, 8, margin_type=margin_type, margin=0.5)
    u = -loss.codebook[:1].double() + 0.05 * torch.randn(1, 8).double()
    u.requires_grad_()
    loss(u, torch.tensor([0])).backward()
    assert (u.grad @ loss.codebook[0].double()).item() < 0


@TYPES
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_outputs_exactly_on_the_centre_have_a_finite_gradient(margin_type, sign, dtype):
    # arccos has no slope there
    loss = OrthoHashLoss(4, 16, margin_type=margin_type)
    u = (sign * loss.codebook).to(dtype).requires_grad_()
    loss(u, torch.arange(4)).backward()
    assert torch.isfinite(u.grad).all()


@TYPES
def test_only_the_direction_of_outputs_counts(margin_type):
    u, loss = torch.randn(6, 8), OrthoHashLoss(4, 8, margin_type=margin_type)
    torch.testing.assert_close(loss(3 * u, LABELS), loss(u, LABELS))
    zero = torch.zeros(6, 8, requires_grad=True)
    loss(zero, LABELS).backward()
    assert torch.isfinite(zero.grad).all()


@TYPES
def test_a_margin_makes_the_loss_larger(margin_type):
    u = torch.randn(6, 8)
    values = [
        OrthoHashLoss(4, 8, margin_type=margin_type, margin=m)(u, LABELS)
        for m in (0, 0.2, 0.4)
    ]
    assert values[0] < values[1] < values[2]


def test_cosine_and_arc_agree_without_margin():
    u = torch.randn(6, 8)
    cosine = OrthoHashLoss(4, 8, margin_type="cosine", margin=0)(u, MULTI_HOT)
    torch.testing.assert_close(
        OrthoHashLoss(4, 8, margin_type="arc", margin=0)(u, MULTI_HOT), cosine
    )


def test_codebook_is_hadamard_where_it_fits_and_maximin_elsewhere():
    assert torch.equal(OrthoHashLoss(10, 32).codebook, hadamard_codebook(10, 32))
    assert torch.equal(
        OrthoHashLoss(10, 48, seed=2).codebook, maximin_codebook(10, 48, seed=2)
    )


@TYPES
def test_items_without_classes_count_zero(margin_type):
    u = torch.randn(3, 8, requires_grad=True)
    loss = OrthoHashLoss(4, 8, margin_type=margin_type)(u, torch.zeros(3, 4))
    loss.backward()
    assert loss.item() == 0
    assert not u.grad.any()


@TYPES
def test_invariant_to_bit_order_and_negation_of_outputs_and_centres(margin_type):
    u, loss = torch.randn(6, 9), OrthoHashLoss(4, 9, margin_type=margin_type)
    order, flip = torch.randperm(9), torch.where(torch.rand(9) < 0.5, 1.0, -1.0)
    changed = OrthoHashLoss(
        4, 9, margin_type=margin_type, codebook=loss.codebook[:, order] * flip
    )
    torch.testing.assert_close(changed(u[:, order] * flip, LABELS), loss(u, LABELS))


def test_state_dict_carries_the_codebook():
    u, loss, other = torch.randn(6, 12), OrthoHashLoss(4, 12), OrthoHashLoss(4, 12, seed=1)
    assert loss(u, LABELS) != other(u, LABELS)
    other.load_state_dict(loss.state_dict())
    assert loss(u, LABELS) == other(u, LABELS)
    assert not list(loss.parameters())


def test_embedding_regularizer_is_added():
    u = torch.randn(6, 8)
    both = OrthoHashLoss(4, 8, embedding_regularizer=LpRegularizer())(u, LABELS)
    plain = OrthoHashLoss(4, 8)(u, LABELS)
    torch.testing.assert_close(both, plain + u.norm(dim=1).mean())


def test_logits_are_scaled_cosines():
    u, loss = torch.randn(6, 8), OrthoHashLoss(4, 8, scale=5)
    expected = 5 * torch.nn.functional.normalize(u) @ loss.codebook.T / math.sqrt(8)
    torch.testing.assert_close(loss.get_logits(u), expected)


U = torch.randn(6, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: OrthoHashLoss(4, 8, margin_type="cos"),
            "must be 'cosine' or 'arc', got 'cos'",
        ),
        (lambda: OrthoHashLoss(4, 8, scale=0), "scale must be > 0, got 0"),
        (lambda: OrthoHashLoss(4, 8, margin=-0.1), "margin must be >= 0"),
        (
            lambda: OrthoHashLoss(4, 8, margin_type="arc", margin=28.6),
            "<= 1.5708 radians, got 28.6",
        ),
        (lambda: OrthoHashLoss(4, 8, distance=CosineSimilarity()), "takes no distance"),
        (lambda: OrthoHashLoss(4, 8, codebook="O"), "got 'O'"),
        (
            lambda: OrthoHashLoss(4, 8)(U, LABELS, ref_emb=U.clone(), ref_labels=LABELS),
            "ref_emb is not supported",
        ),
        (lambda: OrthoHashLoss(3, 8)(U, LABELS), r"\[0, num_classes=3\), got 0 to 3"),
        (lambda: OrthoHashLoss(3, 8)(U, MULTI_HOT), "num_classes=3 columns, got 4"),
        (lambda: OrthoHashLoss(4, 9)(U, LABELS), "embedding_size=9 columns, got 8"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
