import math

import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.regularizers import LpRegularizer

from pml_nmlayer.classes.codebooks import hadamard_codebook, maximin_codebook
from pml_nmlayer.losses.csq_loss import CSQLoss
from tests import naive

LABELS = torch.tensor([0, 0, 1, 3, 2, 0])
MULTI_HOT = torch.tensor(
    [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
)
BOTH = pytest.mark.parametrize("labels", [LABELS, MULTI_HOT], ids=["ids", "multi-hot"])
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}

# inputs of the fixtures below: reproducible without a generator
FIXED_U = (1.5 * torch.sin(torch.arange(1.0, 25))).reshape(4, 6)
FIXED_CENTRES = torch.tensor(
    [[-1, -1, 1, -1, -1, 1], [1, -1, 1, 1, -1, 1], [1, -1, 1, 1, -1, -1]]
)
FIXED_MULTI_HOT = torch.tensor([[1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]])


@BOTH
@pytest.mark.parametrize("bits", [12, 16])
def test_equals_loop(labels, bits, dtype, device):
    u = torch.randn(6, bits, dtype=dtype, device=device)
    loss = CSQLoss(4, bits, quantization_weight=0.3).to(device)
    centres, ties = loss.codebook.tolist(), loss.tie_bits.tolist()
    expected = naive.csq(u.tolist(), labels.tolist(), centres, ties, 0.3)
    tol = TOLERANCE[dtype]
    torch.testing.assert_close(loss(u, labels).item(), expected, rtol=tol, atol=tol)


@BOTH
def test_gradcheck(labels):
    u = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    assert u.abs().min() > 1e-3  # |t| has a kink at 0
    loss = CSQLoss(4, 4, quantization_weight=0.3)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), u)


def test_value_of_a_public_port_for_class_ids():
    # CISiPLab/cisip-FIRe, functions/loss/csq.py, its centre term
    loss = CSQLoss(3, 6, quantization_weight=0, codebook=FIXED_CENTRES)(
        FIXED_U, torch.tensor([0, 2, 1, 2])
    )
    torch.testing.assert_close(loss.item(), 0.9974498, rtol=1e-5, atol=0)


def test_value_of_a_public_port_for_several_classes():
    # same file; its random tie bits were set to + - + - + -, where bits 0 and 3 tie
    loss = CSQLoss(3, 6, quantization_weight=0, codebook=FIXED_CENTRES)
    loss.tie_bits.copy_(torch.tensor([1.0, -1, 1, -1, 1, -1]))
    value = loss(FIXED_U, FIXED_MULTI_HOT).item()
    torch.testing.assert_close(value, 1.0054632, rtol=1e-5, atol=0)


def test_quantization_is_the_log_cosh_of_the_paper_and_not_the_square_of_its_code():
    # The authors' train.py and its ports have (|t| - 1)²: 0.1622382 on these inputs.
    rest = [abs(math.tanh(x)) - 1 for x in FIXED_U.flatten().tolist()]
    log_cosh = sum(math.log(math.cosh(r)) for r in rest) / len(rest)
    square = sum(r * r for r in rest) / len(rest)
    torch.testing.assert_close(square, 0.1622382, rtol=1e-5, atol=0)
    y = torch.zeros(4, 3)  # without classes the quantization term is left
    value = CSQLoss(3, 6, quantization_weight=1.0)(FIXED_U, y).item()
    torch.testing.assert_close(value, log_cosh, rtol=1e-5, atol=0)
    assert value < 0.55 * square


def test_a_tie_takes_the_saved_bit_and_no_class_is_preferred():
    loss = CSQLoss(2, 16, quantization_weight=0)
    both = loss._centres_of(torch.ones(1, 2), torch.zeros(1, 16))[0]
    agree = loss.codebook[0] == loss.codebook[1]
    assert agree.sum() == 8
    assert torch.equal(both[agree], loss.codebook[0][agree])
    assert torch.equal(both[~agree], loss.tie_bits[~agree])
    assert 0 < (both != loss.codebook[0]).sum() < 8


def test_codebook_is_hadamard_where_it_fits_and_maximin_elsewhere():
    assert torch.equal(CSQLoss(10, 32, seed=3).codebook, hadamard_codebook(10, 32, seed=3))
    assert torch.equal(CSQLoss(10, 48, seed=3).codebook, maximin_codebook(10, 48, seed=3))


def test_least_at_large_outputs_on_the_side_of_the_centre():
    loss = CSQLoss(4, 12)
    torch.testing.assert_close(loss(50 * loss.codebook, torch.arange(4)).item(), 0.0)
    wrong = (-200 * loss.codebook).requires_grad_()
    loss(wrong, torch.arange(4)).backward()  # BCE of tanh would be infinite here
    assert torch.isfinite(wrong.grad).all()
    assert (wrong.grad * loss.codebook < 0).all()


def test_items_without_classes_have_no_centre():
    u = torch.randn(3, 8, requires_grad=True)
    loss = CSQLoss(4, 8, quantization_weight=0)(u, torch.zeros(3, 4))
    loss.backward()
    assert loss.item() == 0
    assert not u.grad.any()


def test_invariant_to_bit_order_and_negation_of_outputs_and_centres():
    u, loss = torch.randn(6, 9), CSQLoss(4, 9)
    order, flip = torch.randperm(9), torch.where(torch.rand(9) < 0.5, 1.0, -1.0)
    changed = CSQLoss(4, 9, codebook=loss.codebook[:, order] * flip)
    changed.tie_bits.copy_(loss.tie_bits[order] * flip)
    moved = u[:, order] * flip
    torch.testing.assert_close(changed(moved, MULTI_HOT), loss(u, MULTI_HOT))


def test_paper_preset_sums_the_quantization_over_bits():
    u = torch.randn(6, 12)
    paper = CSQLoss(4, 12, quantization_weight=0.1, preset="paper")
    torch.testing.assert_close(
        paper(u, LABELS), CSQLoss(4, 12, quantization_weight=1.2)(u, LABELS)
    )


def test_state_dict_carries_the_codebook_and_the_tie_bits():
    u, loss, other = torch.randn(6, 12), CSQLoss(4, 12), CSQLoss(4, 12, seed=1)
    assert loss(u, MULTI_HOT) != other(u, MULTI_HOT)
    other.load_state_dict(loss.state_dict())
    assert loss(u, MULTI_HOT) == other(u, MULTI_HOT)
    assert not list(loss.parameters())


def test_embedding_regularizer_is_added():
    u = torch.randn(6, 8)
    both = CSQLoss(4, 8, embedding_regularizer=LpRegularizer())(u, LABELS)
    torch.testing.assert_close(both, CSQLoss(4, 8)(u, LABELS) + u.norm(dim=1).mean())


U = torch.randn(6, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CSQLoss(4, 8, preset="papier"), "preset must be None or 'paper'"),
        (
            lambda: CSQLoss(4, 8, quantization_weight=-1),
            "quantization_weight must be >= 0, got -1",
        ),
        (lambda: CSQLoss(4, 8, distance=CosineSimilarity()), "takes no distance"),
        (lambda: CSQLoss(4, 8, codebook="bernoulli"), "got 'bernoulli'"),
        (lambda: CSQLoss(4, 12, codebook="hadamard"), "K a power of two"),
        (lambda: CSQLoss(4, 8, codebook=torch.ones(3, 8)), r"got \(3, 8\)"),
        (lambda: CSQLoss(4, 8, codebook=torch.rand(4, 8)), "must hold -1 and"),
        (lambda: CSQLoss(9, 3), "3 bits have 8 codes"),
        (
            lambda: CSQLoss(4, 8)(U, LABELS, ref_emb=U.clone(), ref_labels=LABELS),
            "ref_emb is not supported",
        ),
        (lambda: CSQLoss(3, 8)(U, LABELS), r"\[0, num_classes=3\), got 0 to 3"),
        (lambda: CSQLoss(3, 8)(U, MULTI_HOT), "num_classes=3 columns, got 4"),
        (lambda: CSQLoss(4, 9)(U, LABELS), "embedding_size=9 columns, got 8"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
