import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.regularizers import LpRegularizer
from torch.func import functional_call

from pml_nmlayer.losses import DPSHLoss
from pml_nmlayer.losses.dsdh_loss import DSDHLoss
from tests import naive

LABELS = torch.tensor([0, 0, 1, 3, 2, 0])
MULTI_HOT = torch.tensor(
    [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
)
BOTH = pytest.mark.parametrize("labels", [LABELS, MULTI_HOT], ids=["ids", "multi-hot"])
WEIGHTS = {"class_weight": 0.7, "ridge_weight": 0.05, "quantization_weight": 0.3}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}

# inputs of the fixtures below: reproducible without a generator
FIXED_U = (1.5 * torch.sin(torch.arange(1.0, 25))).reshape(4, 6)
FIXED_W = (0.5 * torch.cos(torch.arange(1.0, 19))).reshape(3, 6)
FIXED_LABELS = torch.tensor([0, 2, 1, 2])
FIXED_MULTI_HOT = torch.tensor([[1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]])


def with_weights(W, *weights, **kwargs):
    kwargs |= dict(zip(WEIGHTS, weights, strict=False))
    loss = DSDHLoss(len(W), W.shape[1], **kwargs)
    loss.load_state_dict({"W": W})
    return loss


@BOTH
@pytest.mark.parametrize("balanced", [True, False])
def test_equals_loop(labels, balanced, dtype, device):
    u = torch.randn(6, 13, dtype=dtype, device=device)
    loss = DSDHLoss(4, 13, **WEIGHTS, balanced=balanced).to(device, dtype)
    torch.nn.init.normal_(loss.W)
    expected = naive.dsdh(
        u.tolist(), labels.tolist(), loss.W.tolist(), 0.7, 0.05, 0.3, balanced
    )
    tol = TOLERANCE[dtype]
    torch.testing.assert_close(loss(u, labels).item(), expected, rtol=tol, atol=tol)


@BOTH
def test_class_term_reaches_the_embeddings_straight_through(labels, dtype):
    # In a public port the class term is made of constants, so it trains as plain DPSH.
    u = torch.randn(6, 5, dtype=dtype, requires_grad=True)
    loss = DSDHLoss(4, 5, class_weight=0.7, quantization_weight=0).to(dtype)
    torch.nn.init.normal_(loss.W)
    (loss(u, labels) - DPSHLoss(quantization_weight=0)(u, labels)).backward()
    rows = torch.nn.functional.one_hot(labels, 4) if labels.ndim == 1 else labels
    W, targets = loss.W.tolist(), rows.tolist()
    expected = torch.zeros(6, 5, dtype=dtype)
    for i, row in enumerate(u.tolist()):
        for c in range(4):
            code = [naive.sign(x) for x in row]
            error = naive.dot(W[c], code) - targets[i][c]
            for k in range(5):
                expected[i, k] += 0.7 * 2 * error * W[c][k] / 6
    tol = TOLERANCE[dtype]
    torch.testing.assert_close(u.grad, expected, rtol=tol, atol=tol)
    assert u.grad.abs().min() > 0


@BOTH
@pytest.mark.parametrize("balanced", [True, False])
def test_gradcheck_of_the_smooth_parts(labels, balanced):
    u = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    loss = DSDHLoss(4, 4, class_weight=0, balanced=balanced).double()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), u)
    loss = DSDHLoss(4, 4, balanced=balanced).double()
    weights = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    fixed = u.detach()
    assert torch.autograd.gradcheck(
        lambda W: functional_call(loss, {"W": W}, (fixed, labels)), weights
    )


@pytest.mark.parametrize(
    ("labels", "class_term"),
    [(FIXED_LABELS, 1.7514315), (FIXED_MULTI_HOT, 3.0214062)],
    ids=["ids", "multi-hot"],
)
def test_class_term_of_a_public_port(labels, class_term):
    # TreezzZ/DSDH_PyTorch, dsdh.py, calc_loss: its sums over items divided by B = 4
    value = with_weights(FIXED_W, 1, 0, 0)(FIXED_U, labels)
    value -= with_weights(FIXED_W, 0, 0, 0)(FIXED_U, labels)
    torch.testing.assert_close(value.item(), class_term, rtol=1e-5, atol=0)


def test_ridge_and_quantization_terms_of_a_public_port():
    # same function: ν ‖W‖² / B = 0.5349255, and η Σ (b - u)² / B = 1.2393465, over K = 6
    nothing = with_weights(FIXED_W, 0, 0, 0)(FIXED_U, FIXED_LABELS)
    ridge = with_weights(FIXED_W, 0, 1, 0)(FIXED_U, FIXED_LABELS) - nothing
    torch.testing.assert_close(ridge.item(), 4 * 0.5349255, rtol=1e-5, atol=0)
    quantization = with_weights(FIXED_W, 0, 0, 1)(FIXED_U, FIXED_LABELS) - nothing
    torch.testing.assert_close(quantization.item(), 1.2393465 / 6, rtol=1e-5, atol=0)


def test_pair_terms_are_those_of_dpsh():
    u = torch.randn(6, 12)
    loss = DSDHLoss(4, 12, class_weight=0, quantization_weight=0.3)
    torch.testing.assert_close(
        loss(u, LABELS), DPSHLoss(quantization_weight=0.3)(u, LABELS)
    )


def test_paper_preset_is_the_plain_mean_over_pairs():
    u = torch.randn(6, 12)
    torch.testing.assert_close(
        DSDHLoss(4, 12, preset="paper")(u, LABELS),
        DSDHLoss(4, 12, balanced=False)(u, LABELS),
        rtol=0,
        atol=0,
    )
    assert DSDHLoss(4, 12)(u, LABELS) != DSDHLoss(4, 12, preset="paper")(u, LABELS)


def test_untrained_weights_leave_the_embeddings_alone():
    u = torch.randn(6, 12, requires_grad=True)
    (DSDHLoss(4, 12, class_weight=5.0, quantization_weight=0)(u, LABELS)).backward()
    with_class, u.grad = u.grad, None
    DPSHLoss(quantization_weight=0)(u, LABELS).backward()
    torch.testing.assert_close(with_class, u.grad)


@BOTH
def test_weights_come_to_rest_at_ridge_regression(labels):
    # the closed form that the paper's W-step uses, with sums divided by B = 6
    u = torch.randn(6, 4, dtype=torch.float64)
    b = torch.where(u >= 0, 1.0, -1.0).double()
    rows = torch.nn.functional.one_hot(labels, 4) if labels.ndim == 1 else labels
    normal = b.T @ b + 6 * 0.05 / 0.7 * torch.eye(4, dtype=torch.float64)
    closed_form = torch.linalg.solve(normal, b.T @ rows.double()).T
    loss = DSDHLoss(4, 4, class_weight=0.7, ridge_weight=0.05).double()
    loss.load_state_dict({"W": closed_form})
    loss(u, labels).backward()
    torch.testing.assert_close(loss.W.grad, torch.zeros_like(loss.W), rtol=0, atol=1e-12)


@BOTH
@pytest.mark.parametrize("bits", [5, 13], ids=["more items than bits", "fewer"])
def test_closed_form_equals_loop_and_needs_no_optimizer(labels, bits, dtype):
    u = torch.randn(6, bits, dtype=dtype, requires_grad=True)
    loss = DSDHLoss(4, bits, **WEIGHTS, closed_form=True)
    assert not [*loss.parameters()]
    rows = torch.nn.functional.one_hot(labels, 4) if labels.ndim == 1 else labels
    codes = [[naive.sign(x) for x in row] for row in u.tolist()]
    W = naive.label_map(codes, rows.tolist(), 0.05 / 0.7)
    expected = naive.dsdh(u.tolist(), labels.tolist(), W, 0.7, 0.05, 0.3, True)
    tol = TOLERANCE[dtype]
    value = loss(u, labels)
    torch.testing.assert_close(value.item(), expected, rtol=tol, atol=tol)
    value.backward()
    found, u.grad = u.grad, None
    learned = DSDHLoss(4, bits, **WEIGHTS).to(dtype)
    learned.load_state_dict({"W": torch.tensor(W, dtype=dtype)})
    learned(u, labels).backward()  # the embeddings feel the same W
    torch.testing.assert_close(found, u.grad, rtol=1e-3, atol=1e-5)


def test_closed_form_takes_shorter_codes():
    u, loss = torch.randn(6, 5), DSDHLoss(4, 12, closed_form=True)
    assert loss(u, LABELS) == DSDHLoss(4, 5, closed_form=True)(u, LABELS)
    with pytest.raises(ValueError, match="embedding_size=12 columns or less, got 13"):
        loss(torch.randn(6, 13), LABELS)


def test_one_item_has_no_pair_term():
    u = torch.randn(1, 8, requires_grad=True)
    loss = DSDHLoss(4, 8, class_weight=0, ridge_weight=0, quantization_weight=0)
    value = loss(u, torch.tensor([2]))
    value.backward()
    assert value.item() == 0
    assert not u.grad.any()


def test_invariant_to_bit_order_and_negation_of_outputs_and_weights():
    u, loss = torch.randn(6, 9), with_weights(torch.randn(4, 9))
    order, flip = torch.randperm(9), torch.where(torch.rand(9) < 0.5, 1.0, -1.0)
    changed = with_weights(loss.W.detach()[:, order] * flip)
    torch.testing.assert_close(changed(u[:, order] * flip, LABELS), loss(u, LABELS))


def test_state_dict_round_trip():
    u, loss, other = torch.randn(6, 8), with_weights(torch.randn(4, 8)), DSDHLoss(4, 8)
    assert loss(u, LABELS) != other(u, LABELS)
    other.load_state_dict(loss.state_dict())
    assert loss(u, LABELS) == other(u, LABELS)


def test_weight_and_embedding_regularizers_are_added():
    u, W = torch.randn(6, 8), torch.randn(4, 8)
    plain = with_weights(W)(u, LABELS)
    both = with_weights(
        W, weight_regularizer=LpRegularizer(), embedding_regularizer=LpRegularizer()
    )(u, LABELS)
    expected = plain + W.norm(dim=1).mean() + u.norm(dim=1).mean()
    torch.testing.assert_close(both, expected)


def test_logits_are_those_of_the_codes_in_the_dtype_of_the_outputs():
    u, loss = torch.randn(6, 8, dtype=torch.float64), with_weights(torch.randn(4, 8))
    codes = torch.where(u >= 0, 1.0, -1.0).double()
    torch.testing.assert_close(loss.get_logits(u), codes @ loss.W.double().T)
    assert loss.W.dtype == torch.float32


U = torch.randn(6, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DSDHLoss(4, 8, class_weight=-1), "class_weight must be >= 0, got -1"),
        (lambda: DSDHLoss(4, 8, ridge_weight=-1), "ridge_weight must be >= 0, got -1"),
        (lambda: DSDHLoss(4, 8, quantization_weight=-1), "quantization_weight must be"),
        (lambda: DSDHLoss(4, 8, preset="p"), "preset must be None or 'paper', got 'p'"),
        (lambda: DSDHLoss(4, 8, distance=LpDistance()), "needs a similarity"),
        (
            lambda: DSDHLoss(4, 8)(U, LABELS, ref_emb=U.clone(), ref_labels=LABELS),
            "ref_emb is not supported",
        ),
        (lambda: DSDHLoss(3, 8)(U, LABELS), r"\[0, num_classes=3\), got 0 to 3"),
        (lambda: DSDHLoss(3, 8)(U, MULTI_HOT), "num_classes=3 columns, got 4"),
        (lambda: DSDHLoss(4, 9)(U, LABELS), "embedding_size=9 columns, got 8"),
        (
            lambda: DSDHLoss(4, 8, ridge_weight=0, closed_form=True),
            "ridge_weight=0, and nothing else",
        ),
        (lambda: DSDHLoss(4, 8, class_weight=0, closed_form=True), "got class_weight=0"),
        (
            lambda: DSDHLoss(4, 8, weight_regularizer=LpRegularizer(), closed_form=True),
            r"no W that is trained; .* \['weight_regularizer'\]",
        ),
        (
            lambda: DSDHLoss(4, 8, closed_form=True).get_logits(U),
            "W is that of a batch with labels",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
