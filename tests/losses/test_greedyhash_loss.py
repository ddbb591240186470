import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.regularizers import LpRegularizer
from torch.func import functional_call

from pml_nmlayer.losses.greedyhash_loss import GreedyHashLoss
from tests import naive

LABELS = torch.tensor([0, 0, 1, 3, 2, 0])
MULTI_HOT = torch.tensor(
    [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
)
BOTH = pytest.mark.parametrize("labels", [LABELS, MULTI_HOT], ids=["ids", "multi-hot"])
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}

# inputs of the fixtures below: reproducible without a generator
FIXED_U = (1.5 * torch.sin(torch.arange(1.0, 25))).reshape(4, 6)
FIXED_W = (0.5 * torch.cos(torch.arange(1.0, 19))).reshape(3, 6)
FIXED_MULTI_HOT = torch.tensor([[1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]])


def with_weights(W, quantization_weight=0.1, **kwargs):
    kwargs["quantization_weight"] = quantization_weight
    loss = GreedyHashLoss(len(W), W.shape[1], **kwargs)
    loss.load_state_dict({"W": W})
    return loss


@BOTH
def test_equals_loop(labels, dtype, device):
    u = torch.randn(6, 13, dtype=dtype, device=device)
    loss = GreedyHashLoss(4, 13, quantization_weight=0.3).to(device, dtype)
    expected = naive.greedyhash(u.tolist(), labels.tolist(), loss.W.tolist(), 0.3)
    tol = TOLERANCE[dtype]
    torch.testing.assert_close(loss(u, labels).item(), expected, rtol=tol, atol=tol)


@BOTH
def test_gradient_of_the_cross_entropy_passes_straight_through(labels, dtype):
    u = torch.randn(6, 5, dtype=dtype, requires_grad=True)
    loss = GreedyHashLoss(4, 5, quantization_weight=0).to(dtype)
    loss(u, labels).backward()
    expected = naive.greedyhash_code_gradient(u.tolist(), labels.tolist(), loss.W.tolist())
    tol = TOLERANCE[dtype]
    torch.testing.assert_close(
        u.grad, torch.tensor(expected, dtype=dtype), rtol=tol, atol=tol
    )


@BOTH
def test_gradcheck_of_the_smooth_parts(labels):
    u = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    flat = with_weights(torch.zeros(4, 4)).double()  # leaves the quantization term
    assert torch.autograd.gradcheck(lambda x: flat(x, labels), u)
    loss = GreedyHashLoss(4, 4).double()
    weights = loss.W.detach().clone().requires_grad_()
    fixed = u.detach()
    assert torch.autograd.gradcheck(
        lambda W: functional_call(loss, {"W": W}, (fixed, labels)), weights
    )


def test_values_of_a_public_port_for_class_ids():
    # swuxyj/DeepHash-pytorch, GreedyHash.py, alpha = 0.1
    u = FIXED_U.clone().requires_grad_()
    loss = with_weights(FIXED_W, 0.1)(u, torch.tensor([0, 2, 1, 2]))
    torch.testing.assert_close(loss.item(), 1.0753387, rtol=1e-5, atol=0)
    loss.backward()
    row = [0.0333253, 0.0486475, 0.0105455, -0.0274305, -0.0501106, -0.0201340]
    torch.testing.assert_close(u.grad[0], torch.tensor(row), rtol=1e-4, atol=1e-6)


def test_value_of_a_public_port_for_several_classes():
    # CISiPLab/cisip-FIRe, functions/loss/greedyhash.py, alpha = 0.1. Another port takes
    # the first class of a multi-hot row and forgets the others.
    loss = with_weights(FIXED_W, 0.1)(FIXED_U, FIXED_MULTI_HOT)
    torch.testing.assert_close(loss.item(), 1.1489151, rtol=1e-5, atol=0)


def test_items_without_classes_feel_the_quantization_only():
    u = torch.randn(3, 8, requires_grad=True)
    loss = GreedyHashLoss(4, 8, quantization_weight=0)(u, torch.zeros(3, 4))
    loss.backward()
    assert loss.item() == 0
    assert not u.grad.any()


def test_invariant_to_bit_order_and_negation_of_outputs_and_weights():
    u, loss = torch.randn(6, 9), GreedyHashLoss(4, 9)
    order, flip = torch.randperm(9), torch.where(torch.rand(9) < 0.5, 1.0, -1.0)
    changed = with_weights(loss.W.detach()[:, order] * flip)
    torch.testing.assert_close(changed(u[:, order] * flip, LABELS), loss(u, LABELS))


def test_weights_learn_and_keep_their_dtype():
    u, loss = torch.randn(6, 8, dtype=torch.float64), GreedyHashLoss(4, 8)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    before = loss(u, LABELS)
    for _ in range(20):
        optimizer.zero_grad()
        loss(u, LABELS).backward()
        optimizer.step()
    assert loss.W.dtype == torch.float32
    assert loss(u, LABELS) < before


def test_state_dict_round_trip():
    u, loss, other = torch.randn(6, 8), GreedyHashLoss(4, 8), GreedyHashLoss(4, 8)
    assert loss(u, LABELS) != other(u, LABELS)
    other.load_state_dict(loss.state_dict())
    assert loss(u, LABELS) == other(u, LABELS)


def test_weight_and_embedding_regularizers_are_added():
    u = torch.randn(6, 8)
    W = torch.randn(4, 8)
    plain = with_weights(W)(u, LABELS)
    both = with_weights(
        W,
        weight_regularizer=LpRegularizer(),
        weight_reg_weight=2,
        embedding_regularizer=LpRegularizer(),
    )(u, LABELS)
    expected = plain + 2 * W.norm(dim=1).mean() + u.norm(dim=1).mean()
    torch.testing.assert_close(both, expected)


def test_logits_are_those_of_the_codes():
    loss = GreedyHashLoss(4, 8)
    u = torch.randn(6, 8)
    codes = torch.where(u >= 0, 1.0, -1.0)
    torch.testing.assert_close(loss.get_logits(u), codes @ loss.W.T)


U = torch.randn(6, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: GreedyHashLoss(4, 8, quantization_weight=-1),
            "quantization_weight must be >= 0, got -1",
        ),
        (lambda: GreedyHashLoss(4, 8, distance=CosineSimilarity()), "takes no distance"),
        (
            lambda: GreedyHashLoss(4, 8)(U, LABELS, ref_emb=U.clone(), ref_labels=LABELS),
            "ref_emb is not supported",
        ),
        (lambda: GreedyHashLoss(3, 8)(U, LABELS), r"\[0, num_classes=3\), got 0 to 3"),
        (lambda: GreedyHashLoss(4, 8)(U, LABELS - 1), "got -1 to 2"),
        (lambda: GreedyHashLoss(3, 8)(U, MULTI_HOT), "num_classes=3 columns, got 4"),
        (lambda: GreedyHashLoss(4, 9)(U, LABELS), "embedding_size=9 columns, got 8"),
        (lambda: GreedyHashLoss(4, 8)(U[:5], LABELS), "5 items but 6 labels"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
