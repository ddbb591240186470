import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.distances import CosineSimilarity

from pml_nmlayer.codes import binarize
from pml_nmlayer.distances import HammingSimilarity
from tests import naive

K = 16
LABELS = torch.arange(4).repeat_interleave(6)


@given(st.integers(1, 70), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_eval_mode_counts_equal_bits_exactly(bits, q, r, seed):
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(q, bits, generator=generator)
    v = torch.randn(r, bits, generator=generator)
    u[0, 0] = 0.0  # counts as +1
    mat = HammingSimilarity().eval()(u, v)
    expected = [[naive.hamming_similarity(a, b) for b in v.tolist()] for a in u.tolist()]
    assert mat.tolist() == expected


@pytest.mark.parametrize("training", [True, False])
def test_cosine_unit_has_equal_floats_for_equal_distances(training):
    bits, u, v = 47, torch.randn(20, 47), torch.randn(90, 47)
    equal = HammingSimilarity().train(training)(u, v)
    cosine = HammingSimilarity("cosine").train(training)(u, v)
    torch.testing.assert_close(cosine, 2 * equal / bits - 1)
    for level in equal.unique():
        assert len(cosine[equal == level].unique()) == 1


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_exact_in_half_precision_beyond_its_own_integers(low, training):
    u, v = torch.randn(3, 5001), torch.randn(4, 5001)
    distance = HammingSimilarity().train(training)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mat = distance(u.to(low), v.to(low))
    assert torch.equal(mat, distance(u, v))


def test_straight_through_is_exact_forward_and_linear_backward(dtype):
    u = torch.randn(4, 9, dtype=dtype, requires_grad=True)
    v = torch.randn(3, 9, dtype=dtype)
    weights = torch.randn(4, 3, dtype=dtype)
    mat = HammingSimilarity()(u, v)
    assert torch.equal(mat, HammingSimilarity().eval()(u, v))
    (weights * mat).sum().backward()
    torch.testing.assert_close(u.grad, 0.5 * weights @ binarize(v))


def test_gradcheck_of_the_tanh_surrogate():
    u = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    v = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    for unit in ("bits", "cosine"):
        assert torch.autograd.gradcheck(HammingSimilarity(unit, surrogate="tanh"), (u, v))


def test_tanh_is_soft_in_training_and_exact_in_eval():
    u = torch.randn(4, 8)
    distance = HammingSimilarity(surrogate="tanh")
    torch.testing.assert_close(distance(u), (8 + u.tanh() @ u.tanh().T) / 2)
    assert torch.equal(distance.eval()(u), HammingSimilarity().eval()(u))


@pytest.mark.parametrize("unit", ["bits", "cosine"])
@pytest.mark.parametrize("surrogate", ["ste", "tanh"])
@pytest.mark.parametrize("training", [True, False])
def test_pairwise_is_the_diagonal(unit, surrogate, training, dtype):
    u, v = torch.randn(5, 11, dtype=dtype), torch.randn(5, 11, dtype=dtype)
    distance = HammingSimilarity(unit, surrogate=surrogate).train(training)
    pairwise = distance.pairwise_distance(u, v)
    torch.testing.assert_close(pairwise, distance(u, v).diag())
    assert pairwise.dtype == dtype


def test_eval_mode_carries_no_gradient():
    assert (
        not HammingSimilarity().eval()(torch.randn(2, 4, requires_grad=True)).requires_grad
    )


def test_larger_is_closer():
    distance = HammingSimilarity()
    assert distance.is_inverted
    assert distance.margin(torch.tensor(3.0), torch.tensor(5.0)) == 2
    assert distance.smallest_dist(torch.tensor([1.0, 7.0])) == 7


def test_invariant_to_scale_bit_order_and_negation():
    u = torch.randn(6, 9)
    changed = 3 * u[:, torch.randperm(9)] * torch.where(torch.rand(9) < 0.5, 1.0, -1.0)
    assert torch.equal(HammingSimilarity()(changed), HammingSimilarity()(u))


COSINE = {
    "contrastive": lambda d: losses.ContrastiveLoss(1, 0, distance=d),
    "triplet": lambda d: losses.TripletMarginLoss(distance=d),
    "multi similarity": lambda d: losses.MultiSimilarityLoss(distance=d),
    "ntxent": lambda d: losses.NTXentLoss(distance=d),
    "supcon": lambda d: losses.SupConLoss(distance=d),
    "nca": lambda d: losses.NCALoss(distance=d),
    "lifted": lambda d: losses.LiftedStructureLoss(0, 1, distance=d),
    "generalized lifted": lambda d: losses.GeneralizedLiftedStructureLoss(0, 1, distance=d),
    "margin": lambda d: losses.MarginLoss(beta=0.5, distance=d),
    "intra pair variance": lambda d: losses.IntraPairVarianceLoss(distance=d),
}
BITS = {
    "contrastive": lambda d: losses.ContrastiveLoss(K, K / 2, distance=d),
    "triplet": lambda d: losses.TripletMarginLoss(margin=2, distance=d),
    "multi similarity": lambda d: losses.MultiSimilarityLoss(
        4 / K, 100 / K, 0.75 * K, distance=d
    ),
    "ntxent": lambda d: losses.NTXentLoss(K / 10, distance=d),
    "supcon": lambda d: losses.SupConLoss(K / 10, distance=d),
    "nca": lambda d: losses.NCALoss(2 / K, distance=d),
    "lifted": lambda d: losses.LiftedStructureLoss(K / 2, K, distance=d),
    "generalized lifted": lambda d: losses.GeneralizedLiftedStructureLoss(
        K / 2, K, distance=d
    ),
    "margin": lambda d: losses.MarginLoss(margin=2, beta=0.75 * K, distance=d),
}


@pytest.mark.parametrize("make", COSINE.values(), ids=COSINE)
def test_a_loss_gives_its_cosine_value_of_the_codes(make):
    u = torch.randn(24, K)
    expected = make(CosineSimilarity())(binarize(u), LABELS)
    assert expected > 0
    torch.testing.assert_close(make(HammingSimilarity("cosine"))(u, LABELS), expected)


def class_gap(u):
    """Mean number of equal bits within classes minus that between classes."""
    equal = HammingSimilarity().eval()(u)
    same = LABELS[:, None] == LABELS
    others = ~torch.eye(len(u), dtype=torch.bool)
    return (equal[same & others].mean() - equal[~same].mean()).item()


# All but the variance loss, which pulls pairs to their own mean: no class structure. Every
# two of unit, loss and surrogate meet.
TRAINABLE = [
    (unit, name, ("ste", "tanh")[(i + (unit == "bits")) % 2])
    for unit in ("cosine", "bits")
    for i, name in enumerate(BITS)
]


@pytest.mark.parametrize(("unit", "name", "surrogate"), TRAINABLE)
def test_a_loss_learns_codes(unit, name, surrogate):
    u = (0.5 * torch.randn(24, K)).requires_grad_()
    loss = (COSINE if unit == "cosine" else BITS)[name](
        HammingSimilarity(unit, surrogate=surrogate)
    )
    optimizer = torch.optim.Adam([u], lr=0.05)
    before = class_gap(u)
    for _ in range(60):
        optimizer.zero_grad()
        loss(u, LABELS).backward()
        optimizer.step()
    assert class_gap(u) > before + 2


@pytest.mark.parametrize(
    "make",
    [miners.MultiSimilarityMiner, miners.BatchHardMiner, miners.TripletMarginMiner],
)
def test_miners_take_it(make):
    indices = make(distance=HammingSimilarity("cosine"))(torch.randn(24, K), LABELS)
    assert all(len(index) > 0 for index in indices)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_histogram_loss_has_no_bin_for_equal_codes():
    u = torch.ones(4, K)
    with pytest.raises((RuntimeError, IndexError), match="out of bounds"):
        losses.HistogramLoss(distance=HammingSimilarity("cosine"))(
            u, torch.tensor([0, 0, 1, 1])
        )


def test_ranked_list_loss_drives_classes_apart():
    # it never asks whether larger means closer: the nearest positives get the loss
    u = torch.randn(4, K, requires_grad=True)
    labels = torch.zeros(4, dtype=torch.long)
    loss = losses.RankedListLoss(1, 1, alpha=1, distance=HammingSimilarity("cosine"))
    loss(u, labels).backward()
    moved = HammingSimilarity("cosine", surrogate="tanh")(u - 0.1 * u.grad)
    same = HammingSimilarity("cosine", surrogate="tanh")(u)
    off = ~torch.eye(4, dtype=torch.bool)
    assert moved[off].mean() < same[off].mean()


def test_statistics_are_collected():
    distance = HammingSimilarity(collect_stats=True)
    distance(torch.ones(2, 4))
    assert distance.final_avg_query_norm == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HammingSimilarity("bit"), "unit must be 'bits' or 'cosine', got 'bit'"),
        (lambda: HammingSimilarity(surrogate="sgn"), "surrogate must be 'ste' or 'tanh'"),
        (lambda: HammingSimilarity()(torch.randn(4)), "must be a 2D tensor"),
        (lambda: HammingSimilarity().eval()(torch.tensor([[torch.nan]])), "got NaN"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
