import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance

from pml_nmlayer.losses.tie_aware_ap_loss import TieAwareAPLoss
from tests import naive

LABELS = torch.tensor([0, 0, 1, 1, 2, 0])
MULTI_HOT = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0], [1, 0, 0]])
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
both_labels = pytest.mark.parametrize(
    "labels", [LABELS, MULTI_HOT], ids=["class ids", "multi-hot"]
)


@both_labels
@pytest.mark.parametrize("bits", [1, 12, 13])
@pytest.mark.parametrize("bins", [None, 5])
def test_equals_loop(labels, bits, bins, dtype, device):
    u = torch.randn(6, bits, dtype=dtype, device=device, requires_grad=True)
    loss = TieAwareAPLoss(sharpness=1.5, bins=bins)(u, labels)
    args = (u.tolist(), labels.tolist(), bins or bits, 1.5, True, False)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(
        loss.item(), naive.tie_aware_ap(*args), rtol=tolerance, atol=tolerance
    )
    loss.backward()
    assert torch.isfinite(u.grad).all()


@both_labels
def test_paper_preset_is_the_simplified_form_of_a_plain_tanh(labels, dtype):
    u = torch.randn(6, 13, dtype=dtype)
    loss = TieAwareAPLoss(preset="paper")(u, labels)
    expected = naive.tie_aware_ap(u.tolist(), labels.tolist(), 13, 0.5, False, True)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(loss.item(), expected, rtol=tolerance, atol=tolerance)


@given(
    codes=st.lists(
        st.lists(st.sampled_from([-1.0, 1.0]), min_size=3, max_size=3),
        min_size=2,
        max_size=6,
    ),
    data=st.data(),
    scale=st.sampled_from([1.0, 2.5]),
    multi_hot=st.booleans(),
)
def test_codes_give_the_mean_over_all_orders_of_tied_items(codes, data, scale, multi_hot):
    bit = st.integers(0, 1)
    label = st.lists(bit, min_size=2, max_size=2) if multi_hot else bit
    y = data.draw(st.lists(label, min_size=len(codes), max_size=len(codes)))
    expected = naive.tie_aware_ap_permutations(codes, y)
    for dtype, tolerance in TOLERANCE.items():
        u = scale * torch.tensor(codes, dtype=dtype)
        loss = TieAwareAPLoss()(u, torch.tensor(y)).item()
        torch.testing.assert_close(loss, expected, rtol=tolerance, atol=tolerance)


def test_codes_equal_the_authors_evaluation():
    # kunhe/TALR, +eval/tieAP.m, run in numpy: 10 queries, 30 items, 9 bits, many ties.
    u = 1.5 * torch.sin(torch.arange(1, 361, dtype=torch.float64)).view(40, 9)
    codes, y = torch.where(u >= 0, 1.0, -1.0), torch.arange(40) % 3
    loss = TieAwareAPLoss()(codes[:10], y[:10], ref_emb=codes[10:], ref_labels=y[10:])
    torch.testing.assert_close(1 - loss.item(), 0.38380380215935495, rtol=1e-6, atol=0)


def public_input(bits):
    """Six items; public implementations were run on the same float64 numbers."""
    return 1.5 * torch.sin(torch.arange(1, 6 * bits + 1, dtype=torch.float64)).view(6, bits)


PUBLIC_LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
PUBLIC_MULTI_HOT = torch.tensor(
    [[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 0, 0]]
)


@pytest.mark.parametrize(
    ("bits", "bins", "labels", "precision"),
    [
        (12, 6, PUBLIC_LABELS, 0.562651357738956),
        (12, 6, PUBLIC_MULTI_HOT, 0.6707538023679921),
        (13, 6, PUBLIC_LABELS, 0.4915823595189945),
        (13, 6, PUBLIC_MULTI_HOT, 0.6719229161601622),
        (12, 12, PUBLIC_LABELS, 0.6532152829194894),
        (12, 12, PUBLIC_MULTI_HOT, 0.6665716345317274),
    ],
)
def test_paper_preset_equals_authors_objective(bits, bins, labels, precision):
    # kunhe/TALR, apr_s_forward.m with gamma 1, run in numpy; over the six anchors.
    loss = TieAwareAPLoss(bins=bins, preset="paper")(public_input(bits), labels)
    torch.testing.assert_close(1 - loss.item(), precision, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("nearer", "tied", "similar", "too_low"),
    [
        (0, 1, 1, 0.0),
        (4, 1, 1, 0.0),
        (0, 5, 1, 0.12333),
        (0, 9, 9, 0.0),
        (6, 39, 39, -0.06845),
    ],
)
def test_simplified_form_is_exact_without_ties_only(nearer, tied, similar, too_low):
    # One anchor: `nearer` dissimilar items at distance 0, then `tied` items at distance 1.
    items = torch.ones(1 + nearer + tied, 4, dtype=torch.float64) * 50
    items[1 + nearer :, 0] *= -1
    hits = torch.arange(1 + nearer, 1 + nearer + similar)
    others = torch.cat(
        [torch.arange(1, 1 + nearer), torch.arange(hits[-1] + 1, len(items))]
    )
    pairs = (torch.zeros_like(hits), hits, torch.zeros_like(others), others)
    step = (similar - 1) / max(tied - 1, 1)  # further hits expected for each tied rank
    exact = sum((1 + t * step) / (nearer + 1 + t) for t in range(tied)) / tied
    loss = TieAwareAPLoss()(items, None, pairs).item()
    paper = TieAwareAPLoss(preset="paper")(items, None, pairs).item()
    torch.testing.assert_close(1 - loss, exact, rtol=1e-10, atol=0)
    torch.testing.assert_close(paper - loss, too_low, rtol=0, atol=1e-5)


def test_shuffling_the_batch_changes_nothing():
    u = torch.where(torch.randn(30, 4) > 0, 1.0, -1.0).double()
    y, order = torch.randint(0, 3, (30,)), torch.randperm(30)
    torch.testing.assert_close(TieAwareAPLoss()(u[order], y[order]), TieAwareAPLoss()(u, y))


def test_finer_bins_are_exact_on_codes_too():
    u = torch.where(torch.randn(20, 6) > 0, 1.0, -1.0).double()
    y = torch.randint(0, 3, (20,))
    torch.testing.assert_close(TieAwareAPLoss(bins=18)(u, y), TieAwareAPLoss()(u, y))


def test_between_codes_the_loss_stays_between_0_and_1():
    for seed in range(20):
        torch.manual_seed(seed)
        u = torch.randn(12, 8, dtype=torch.float64)
        assert 0 <= TieAwareAPLoss()(u, torch.randint(0, 3, (12,))).item() < 1


def test_all_similar_is_a_loss_of_zero_also_between_codes():
    u = torch.randn(6, 8, dtype=torch.float64)
    loss = TieAwareAPLoss()(u, torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(loss.item(), 0.0, rtol=0, atol=1e-6)


def test_gradcheck():
    u = 0.3 * torch.randn(5, 6, dtype=torch.float64)
    u = u.clamp(-0.9, 0.9).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: TieAwareAPLoss()(x, LABELS[:5]), u)


def test_gradient_pulls_a_similar_item_past_a_dissimilar_one():
    # Anchor and its similar item differ in two bits, the dissimilar one in one bit only.
    u = torch.tensor(
        [[1.0, 1, 1, 1], [1, 1, -0.5, -0.5], [1, 1, 1, -0.5]], requires_grad=True
    )
    TieAwareAPLoss()(u, torch.tensor([0, 0, 1])).backward()
    assert (u.grad[1, 2:] < 0).all()


def test_anchors_without_a_similar_item_are_left_out():
    u = torch.randn(5, 8, dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1, 2])
    expected = naive.tie_aware_ap(u.tolist(), y.tolist(), 8, 3.0, True, False)
    torch.testing.assert_close(TieAwareAPLoss()(u, y).item(), expected, rtol=1e-10, atol=0)
    assert TieAwareAPLoss()(u, torch.arange(5)).item() == 0


def test_distances_up_to_200_bits_and_1000_items_stay_exact():
    u = torch.where(torch.randn(4, 200) > 0, 1.0, -1.0)
    ref = torch.where(torch.randn(1000, 200) > 0, 1.0, -1.0)
    y, ref_y = torch.arange(4) % 2, torch.randint(0, 2, (1000,))
    loss = TieAwareAPLoss()(u, y, ref_emb=ref, ref_labels=ref_y)
    distance = ((200 - u @ ref.T) / 2).long()
    expected = []
    for i in range(4):
        similar = ref_y == y[i]
        items = torch.bincount(distance[i], minlength=201).double()
        hits = torch.bincount(distance[i][similar], minlength=201).double()
        total, before, found = 0.0, 0, 0
        for n, h in zip(items.long().tolist(), hits.long().tolist(), strict=True):
            for t in range(1, n + 1):  # expected precision at rank before + t
                others = (t - 1) * (h - 1) / (n - 1) if n > 1 else 0
                total += h / n * (found + 1 + others) / (before + t)
            before, found = before + n, found + h
        expected.append(1 - total / found)
    torch.testing.assert_close(loss.item(), sum(expected) / 4, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TieAwareAPLoss(sharpness=0), "sharpness must be > 0"),
        (lambda: TieAwareAPLoss(bins=0), "bins must be >= 1"),
        (lambda: TieAwareAPLoss(preset="papier"), "preset must be None or 'paper'"),
        (lambda: TieAwareAPLoss(distance=LpDistance()), "leave out distance=LpDistance"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
