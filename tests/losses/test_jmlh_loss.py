import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.regularizers import LpRegularizer
from torch.func import functional_call

from pml_nmlayer.codes import binarize
from pml_nmlayer.losses.jmlh_loss import JMLHLoss
from tests import naive

LABELS = torch.tensor([0, 0, 1, 3, 2, 0])
MULTI_HOT = torch.tensor(
    [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
)
BOTH = pytest.mark.parametrize("labels", [LABELS, MULTI_HOT], ids=["ids", "multi-hot"])
PRESETS = pytest.mark.parametrize("preset", [None, "paper"])
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}

# inputs of the fixtures below: reproducible without a generator
FIXED_U = (1.5 * torch.sin(torch.arange(1.0, 25))).reshape(4, 6)
FIXED_W = (0.5 * torch.cos(torch.arange(1.0, 19))).reshape(3, 6)
FIXED_BIAS = torch.tensor([0.1, -0.2, 0.3])
FIXED_MULTI_HOT = torch.tensor([[1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]])


def with_weights(W, bias, kl_weight=1.0, **kwargs):
    loss = JMLHLoss(len(W), W.shape[1], kl_weight=kl_weight, **kwargs)
    loss.load_state_dict({"W": W, "bias": bias})
    return loss


def of_codes_0_and_1(W, bias, *args, **kwargs):
    """The loss whose logits on codes of -1 and +1 are those of W on codes of 0 and 1."""
    return with_weights(W / 2, bias + W.sum(1) / 2, *args, **kwargs)


@BOTH
@PRESETS
def test_evaluation_equals_loop(labels, preset, dtype, device):
    u = torch.randn(6, 13, dtype=dtype, device=device)
    loss = JMLHLoss(4, 13, kl_weight=0.3, preset=preset).to(device, dtype).eval()
    torch.nn.init.normal_(loss.bias)
    expected = naive.jmlh(
        u.tolist(),
        labels.tolist(),
        loss.W.tolist(),
        loss.bias.tolist(),
        0.3,
        preset == "paper",
    )
    tol = TOLERANCE[dtype]
    torch.testing.assert_close(loss(u, labels).item(), expected, rtol=tol, atol=tol)


@BOTH
def test_gradient_of_the_cross_entropy_is_that_of_the_mean_bit(labels, dtype):
    u = torch.randn(6, 5, dtype=dtype, requires_grad=True)
    loss = JMLHLoss(4, 5, kl_weight=0).to(dtype).eval()
    loss(u, labels).backward()
    # with bias 0 the slope in the code is GreedyHash's
    in_code = naive.greedyhash_code_gradient(u.tolist(), labels.tolist(), loss.W.tolist())
    p = 1 / (1 + (-u.detach()).exp())
    expected = 2 * p * (1 - p) * torch.tensor(in_code, dtype=dtype)
    tol = TOLERANCE[dtype]
    torch.testing.assert_close(u.grad, expected, rtol=tol, atol=tol)


@BOTH
@PRESETS
def test_gradcheck_of_the_smooth_parts(labels, preset):
    u = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(4, 4), torch.zeros(4)
    flat = with_weights(*zeros, preset=preset).double()  # leaves the KL
    assert torch.autograd.gradcheck(lambda x: flat(x, labels), u)
    loss = JMLHLoss(4, 4, preset=preset).double().eval()
    start = [x.detach().clone().requires_grad_() for x in (loss.W, loss.bias)]
    fixed = u.detach()
    assert torch.autograd.gradcheck(
        lambda W, a: functional_call(loss, {"W": W, "bias": a}, (fixed, labels)), start
    )


def test_values_of_a_public_port():
    # CISiPLab/cisip-FIRe, functions/loss/jmlh.py and models/layers/activation.py: codes
    # of 0 and 1, lmbd = 0.1 on a sum over bits, ε = 1/2
    u = FIXED_U.clone().requires_grad_()
    loss = of_codes_0_and_1(FIXED_W, FIXED_BIAS, 0.1, preset="paper").eval()
    value = loss(u, torch.tensor([0, 2, 1, 2]))
    torch.testing.assert_close(value.item(), 1.1134501, rtol=1e-5, atol=0)
    value.backward()
    row = [0.0106356, 0.0126842, 0.0056051, -0.0098886, -0.0125139, -0.0080201]
    torch.testing.assert_close(u.grad[0], torch.tensor(row), rtol=1e-4, atol=1e-6)
    value = loss(FIXED_U, FIXED_MULTI_HOT).item()
    torch.testing.assert_close(value, 1.2464873, rtol=1e-5, atol=0)


def test_paper_preset_sums_the_kl_over_bits():
    u, W, bias = torch.randn(6, 12), torch.randn(4, 12), torch.randn(4)
    paper = with_weights(W, bias, 0.1, preset="paper").eval()
    ours = with_weights(W, bias, 1.2).eval()
    torch.testing.assert_close(paper(u, LABELS), ours(u, LABELS))


def draw(u, seed):
    """Codes of one training step: with W = 1 and a = 0 the logits are the codes."""
    loss = with_weights(torch.eye(u.shape[1]), torch.zeros(u.shape[1]))
    torch.manual_seed(seed)
    return loss.get_logits(u)


def test_training_codes_are_bits_with_the_probability_of_the_output():
    u = torch.tensor([-2.0, -0.5, 0.0, 1.0, 100.0, -100.0]).expand(20_000, 6)
    codes = draw(u, seed=0)
    assert torch.equal(codes.abs(), torch.ones_like(u))
    expected = 2 * torch.sigmoid(u[0]) - 1
    deviation = ((1 - expected**2) / len(u)).sqrt()
    assert ((codes.mean(0) - expected).abs() <= 5 * deviation).all()
    flips = codes[:, 1:3]  # bits are drawn one by one, not item by item
    assert (flips[:, 0] * flips[:, 1]).mean().abs() < 0.03


def test_noise_comes_from_the_default_generator_in_training_only():
    u = torch.randn(50, 8)
    assert torch.equal(draw(u, seed=1), draw(u, seed=1))
    assert not torch.equal(draw(u, seed=1), draw(u, seed=2))
    loss = with_weights(torch.eye(8), torch.zeros(8)).eval()
    before = torch.get_rng_state()
    assert torch.equal(loss.get_logits(u), binarize(u))
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_code_is_the_sign_with_sign_0_positive():
    # σ(-1e-12) rounds to 1/2 in float32: comparing it with 1/2 would give the wrong bit
    u = torch.tensor([[0.0, -0.0, -1e-12, 1e-12]])
    loss = with_weights(torch.eye(4), torch.zeros(4)).eval()
    assert loss.get_logits(u).tolist() == [[1, 1, -1, 1]]


def test_kl_is_least_at_zero_and_finite_far_out():
    loss = with_weights(torch.zeros(4, 8), torch.zeros(4)).eval()
    y = torch.zeros(1, 4)  # without classes the KL is left
    torch.testing.assert_close(loss(torch.zeros(1, 8), y).item(), 0.0, rtol=0, atol=1e-7)
    far = torch.full((1, 8), 500.0).requires_grad_()
    value = loss(far, y)
    torch.testing.assert_close(value.item(), 0.6931472)
    value.backward()
    assert torch.isfinite(far.grad).all()


def test_items_without_classes_feel_the_kl_only():
    u = torch.randn(3, 8, requires_grad=True)
    loss = JMLHLoss(4, 8, kl_weight=0)(u, torch.zeros(3, 4))
    loss.backward()
    assert loss.item() == 0
    assert not u.grad.any()


def test_evaluation_is_invariant_to_bit_order_and_negation_of_outputs_and_weights():
    u, loss = torch.randn(6, 9), JMLHLoss(4, 9).eval()
    order, flip = torch.randperm(9), torch.where(torch.rand(9) < 0.5, 1.0, -1.0)
    changed = with_weights(loss.W.detach()[:, order] * flip, loss.bias.detach()).eval()
    torch.testing.assert_close(changed(u[:, order] * flip, LABELS), loss(u, LABELS))


def test_weights_learn_and_keep_their_dtype():
    u, loss = torch.randn(6, 8, dtype=torch.float64), JMLHLoss(4, 8).eval()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    before = loss(u, LABELS)
    for _ in range(20):
        optimizer.zero_grad()
        loss(u, LABELS).backward()
        optimizer.step()
    assert loss.W.dtype == loss.bias.dtype == torch.float32
    assert loss.bias.any()
    assert loss(u, LABELS) < before


def test_state_dict_round_trip():
    u, loss, other = torch.randn(6, 8), JMLHLoss(4, 8).eval(), JMLHLoss(4, 8).eval()
    torch.nn.init.normal_(loss.bias)
    assert loss(u, LABELS) != other(u, LABELS)
    other.load_state_dict(loss.state_dict())
    assert loss(u, LABELS) == other(u, LABELS)


def test_weight_and_embedding_regularizers_are_added():
    u, W, bias = torch.randn(6, 8), torch.randn(4, 8), torch.zeros(4)
    plain = with_weights(W, bias).eval()(u, LABELS)
    both = with_weights(
        W,
        bias,
        weight_regularizer=LpRegularizer(),
        embedding_regularizer=LpRegularizer(),
    ).eval()(u, LABELS)
    expected = plain + W.norm(dim=1).mean() + u.norm(dim=1).mean()
    torch.testing.assert_close(both, expected)


U = torch.randn(6, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JMLHLoss(4, 8, kl_weight=-1), "kl_weight must be >= 0, got -1"),
        (lambda: JMLHLoss(4, 8, preset="p"), "preset must be None or 'paper', got 'p'"),
        (lambda: JMLHLoss(4, 8, distance=CosineSimilarity()), "takes no distance"),
        (
            lambda: JMLHLoss(4, 8)(U, LABELS, ref_emb=U.clone(), ref_labels=LABELS),
            "ref_emb is not supported",
        ),
        (lambda: JMLHLoss(3, 8)(U, LABELS), r"\[0, num_classes=3\), got 0 to 3"),
        (lambda: JMLHLoss(3, 8)(U, MULTI_HOT), "num_classes=3 columns, got 4"),
        (lambda: JMLHLoss(4, 9)(U, LABELS), "embedding_size=9 columns, got 8"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
