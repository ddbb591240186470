import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.reducers import ClassWeightedReducer
from pytorch_metric_learning.regularizers import LpRegularizer

from pml_nmlayer.classes.codebooks import hadamard_codebook, maximin_codebook
from pml_nmlayer.losses.dpn_loss import DPNLoss
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
FIXED_CENTRES = torch.tensor(
    [[-1, -1, 1, -1, -1, 1], [1, -1, 1, 1, -1, 1], [1, -1, 1, 1, -1, -1]]
)


@BOTH
@PRESETS
@pytest.mark.parametrize("bits", [12, 16])
def test_equals_loop(labels, preset, bits, dtype, device):
    u = torch.randn(6, bits, dtype=dtype, device=device)
    loss = DPNLoss(4, bits, margin=0.7, preset=preset).to(device)
    expected = naive.dpn(
        u.tolist(), labels.tolist(), loss.codebook.tolist(), 0.7, preset == "paper"
    )
    tol = TOLERANCE[dtype]
    torch.testing.assert_close(loss(u, labels).item(), expected, rtol=tol, atol=tol)


@BOTH
def test_gradcheck(labels):
    u = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    assert (u.abs() - 0.95).abs().min() > 1e-3  # the hinge has a kink at the margin
    loss = DPNLoss(4, 4, margin=0.95)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), u)


def test_values_of_the_authors_code():
    # kamwoh/DPN, scripts/train_hashing.py, m = 1: a sum over bits; for several classes a
    # sum over these too, so each item's rows are given alone and divided by their number
    loss = DPNLoss(3, 6, codebook=FIXED_CENTRES, preset="paper")
    value = loss(FIXED_U, torch.tensor([0, 2, 1, 2])).item()
    torch.testing.assert_close(value, 5.5803976, rtol=1e-5, atol=0)
    rows = torch.tensor([[1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]])
    counts = rows.sum(1).tolist()
    each = [loss(FIXED_U[i : i + 1], rows[i : i + 1]).item() for i in range(4)]
    summed = sum(n * x for n, x in zip(counts, each, strict=True)) / 4
    torch.testing.assert_close(summed, 10.6334972, rtol=1e-5, atol=0)


def test_value_of_a_public_port_with_a_mean_over_bits():
    # swuxyj/DeepHash-pytorch, DPN.py, m = 1
    loss = DPNLoss(3, 6, codebook=FIXED_CENTRES)
    value = loss(FIXED_U, torch.tensor([0, 2, 1, 2])).item()
    torch.testing.assert_close(value, 0.9300663, rtol=1e-5, atol=0)


@BOTH
def test_paper_preset_is_bits_times_the_default(labels):
    u = torch.randn(6, 12)
    torch.testing.assert_close(
        DPNLoss(4, 12, preset="paper")(u, labels), 12 * DPNLoss(4, 12)(u, labels)
    )


def test_zero_beyond_the_margin_on_the_right_side():
    loss = DPNLoss(4, 12, margin=0.5)
    assert loss(0.6 * loss.codebook, torch.arange(4)).item() == 0
    torch.testing.assert_close(loss(-0.5 * loss.codebook, torch.arange(4)).item(), 1.0)


def test_codebook_is_hadamard_where_it_fits_and_maximin_elsewhere():
    assert torch.equal(DPNLoss(10, 32).codebook, hadamard_codebook(10, 32))
    assert torch.equal(DPNLoss(10, 48, seed=2).codebook, maximin_codebook(10, 48, seed=2))


def test_items_without_classes_count_zero():
    u = torch.randn(3, 8, requires_grad=True)
    loss = DPNLoss(4, 8)(u, torch.zeros(3, 4))
    loss.backward()
    assert loss.item() == 0
    assert not u.grad.any()


def test_invariant_to_bit_order_and_negation_of_outputs_and_targets():
    u, loss = torch.randn(6, 9), DPNLoss(4, 9)
    order, flip = torch.randperm(9), torch.where(torch.rand(9) < 0.5, 1.0, -1.0)
    changed = DPNLoss(4, 9, codebook=loss.codebook[:, order] * flip)
    torch.testing.assert_close(changed(u[:, order] * flip, MULTI_HOT), loss(u, MULTI_HOT))


def test_state_dict_carries_the_codebook():
    u, loss, other = torch.randn(6, 12), DPNLoss(4, 12), DPNLoss(4, 12, seed=1)
    assert loss(u, LABELS) != other(u, LABELS)
    other.load_state_dict(loss.state_dict())
    assert loss(u, LABELS) == other(u, LABELS)
    assert not list(loss.parameters())


def test_reducers_and_regularizers_of_pml_apply():
    u, weights = torch.randn(6, 8), torch.tensor([1.0, 2.0, 3.0, 4.0])
    plain = DPNLoss(4, 8)(u, LABELS)
    both = DPNLoss(4, 8, embedding_regularizer=LpRegularizer())(u, LABELS)
    torch.testing.assert_close(both, plain + u.norm(dim=1).mean())
    items = [DPNLoss(4, 8)(u[i : i + 1], LABELS[i : i + 1]) for i in range(6)]
    expected = (torch.stack(items) * weights[LABELS]).mean()
    weighted = DPNLoss(4, 8, reducer=ClassWeightedReducer(weights))(u, LABELS)
    torch.testing.assert_close(weighted, expected)


U = torch.randn(6, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DPNLoss(4, 8, margin=0), "margin must be > 0, got 0"),
        (lambda: DPNLoss(4, 8, preset="sum"), "preset must be None or 'paper'"),
        (lambda: DPNLoss(4, 8, distance=CosineSimilarity()), "takes no distance"),
        (lambda: DPNLoss(4, 8, codebook="random"), "got 'random'"),
        (
            lambda: DPNLoss(4, 8)(U, LABELS, ref_emb=U.clone(), ref_labels=LABELS),
            "ref_emb is not supported",
        ),
        (lambda: DPNLoss(3, 8)(U, LABELS), r"\[0, num_classes=3\), got 0 to 3"),
        (lambda: DPNLoss(3, 8)(U, MULTI_HOT), "num_classes=3 columns, got 4"),
        (lambda: DPNLoss(4, 9)(U, LABELS), "embedding_size=9 columns, got 8"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
