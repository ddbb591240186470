import inspect

import pytest
import torch
from pytorch_metric_learning import losses, miners, reducers

from pml_nmlayer import ProgressiveHead
from pml_nmlayer.labels import LabelSets
from pml_nmlayer.losses import DPSHLoss, MultiLabelLoss, NMLoss
from tests import naive

IDS = torch.tensor([0, 0, 1, 1, 2, 2, 2, 0])
ONE_HOT = torch.nn.functional.one_hot(IDS)
REF_IDS = torch.tensor([2, 1, 0, 0, 1])
ROWS = torch.tensor(
    [[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]]
)
PAIRS = (IDS, IDS, IDS, IDS)  # any tuple that a loss on given pairs would take
SUPPORTED = {
    losses.CircleLoss: {},
    losses.ContrastiveLoss: {},
    losses.DynamicSoftMarginLoss: {},
    losses.GeneralizedLiftedStructureLoss: {},
    losses.HistogramLoss: {},
    losses.IntraPairVarianceLoss: {},
    losses.LiftedStructureLoss: {},
    losses.MarginLoss: {},
    losses.MultiSimilarityLoss: {},
    losses.NTXentLoss: {},
    losses.SignalToNoiseRatioContrastiveLoss: {},
    losses.SupConLoss: {},
    losses.ThresholdConsistentMarginLoss: {},
    losses.TripletMarginLoss: {},
    losses.TupletMarginLoss: {},
}
CLASSES = {"num_classes": 3, "embedding_size": 6}
REFUSED = {
    losses.AngularLoss: {},
    losses.ArcFaceLoss: CLASSES,
    losses.CosFaceLoss: CLASSES,
    losses.FastAPLoss: {},
    losses.InstanceLoss: {},
    losses.LargeMarginSoftmaxLoss: CLASSES,
    losses.ManifoldLoss: {"l": 6, "K": 2},
    losses.NCALoss: {},
    losses.NPairsLoss: {},
    losses.NormalizedSoftmaxLoss: CLASSES,
    losses.P2SGradLoss: {"descriptors_dim": 6, "num_classes": 3},
    losses.PNPLoss: {},
    losses.ProxyAnchorLoss: CLASSES,
    losses.ProxyNCALoss: CLASSES,
    losses.RankedListLoss: {"margin": 1, "Tn": 1},
    losses.SoftTripleLoss: CLASSES,
    losses.SphereFaceLoss: CLASSES,
    losses.SubCenterArcFaceLoss: CLASSES,
    losses.VICRegLoss: {},
}
if hasattr(losses, "SmoothAPLoss"):  # since PML 2.9
    REFUSED[losses.SmoothAPLoss] = {}
NO_REFERENCES = (losses.HistogramLoss, losses.ThresholdConsistentMarginLoss)

pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
supported = pytest.mark.parametrize("loss_class", SUPPORTED, ids=lambda c: c.__name__)
refused = pytest.mark.parametrize("loss_class", REFUSED, ids=lambda c: c.__name__)


def test_every_loss_of_pml_is_either_supported_or_refused():
    of_pml = {
        c
        for c in vars(losses).values()
        if inspect.isclass(c) and issubclass(c, losses.BaseMetricLossFunction)
    } - {losses.BaseMetricLossFunction, losses.GenericPairLoss}
    assert of_pml == set(SUPPORTED) | set(REFUSED)


@supported
def test_one_hot_rows_give_the_value_and_gradient_of_class_ids(loss_class, dtype):
    u = torch.randn(8, 6, dtype=dtype)
    grads = []
    for labels, wrap in ((IDS, lambda loss: loss), (ONE_HOT, MultiLabelLoss)):
        x = u.clone().requires_grad_()
        loss = wrap(loss_class())(x, labels)
        loss.backward()
        grads.append((loss, x.grad))
    assert grads[0][0] != 0
    torch.testing.assert_close(grads[1], grads[0])


@supported
def test_references(loss_class):
    u, ref = torch.randn(8, 6), torch.randn(5, 6)
    rows = torch.nn.functional.one_hot(REF_IDS)
    wrapped = MultiLabelLoss(loss_class())
    if issubclass(loss_class, NO_REFERENCES):
        with pytest.raises(ValueError, match="ref_emb"):
            wrapped(u, ONE_HOT, ref_emb=ref, ref_labels=rows)
        return
    expected = loss_class()(u, IDS, ref_emb=ref, ref_labels=REF_IDS)
    assert expected != 0
    found = wrapped(u, ONE_HOT, ref_emb=ref, ref_labels=rows)
    torch.testing.assert_close(found, expected)


@supported
@pytest.mark.parametrize(
    "rows",
    [
        torch.zeros(0, 3),  # empty batch
        torch.ones(1, 3),  # one item
        torch.zeros(5, 3),  # no item has a label: no positive pair
        torch.ones(5, 3),  # all pairs similar: no negative pair
    ],
    ids=["empty", "single", "no labels", "all similar"],
)
def test_a_kind_of_pairs_may_be_missing(loss_class, rows):
    u = torch.randn(len(rows), 6, requires_grad=True)
    loss = MultiLabelLoss(loss_class())(u, rows)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(u.grad).all()
    if len(rows) < 2:
        assert loss == 0


@refused
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept")
def test_a_refused_loss_is_named_and_really_cannot(loss_class):
    loss = loss_class(**REFUSED[loss_class])
    with pytest.raises(ValueError, match=f"^{loss_class.__name__} (compares|owns|takes)"):
        MultiLabelLoss(loss)
    with pytest.raises((ValueError, TypeError)):
        loss(torch.randn(8, 6), None, PAIRS)


def test_subclasses_are_judged_by_their_parents():
    class MyProxies(losses.ProxyAnchorLoss):
        pass

    with pytest.raises(ValueError, match="MyProxies owns a weight vector a class"):
        MultiLabelLoss(MyProxies(3, 6))


def contrastive(u, pos, neg):
    """Mean over the pairs of distance, and of what a distance lacks to the margin 1."""

    def distance(i, j):
        return sum((a - b) ** 2 for a, b in zip(u[i], u[j], strict=True)) ** 0.5

    near = [distance(i, j) for i, j in pos]
    far = [max(0.0, 1 - distance(i, j)) for i, j in neg]
    return sum(near) / len(near) + sum(far) / len(far)


def test_contrastive_equals_loop_over_shared_labels():
    u = torch.nn.functional.normalize(torch.randn(8, 6, dtype=torch.float64))
    loss = MultiLabelLoss(losses.ContrastiveLoss(reducer=reducers.MeanReducer()))
    expected = contrastive(u.tolist(), *naive.multilabel_pairs(ROWS.tolist()))
    assert loss(u, ROWS).item() == pytest.approx(expected, rel=1e-10)


def triplet_margin(u, triplets, margin):
    def distance(i, j):
        return sum((a - b) ** 2 for a, b in zip(u[i], u[j], strict=True)) ** 0.5

    values = [max(0.0, distance(i, j) - distance(i, k) + margin) for i, j, k in triplets]
    return sum(values) / len(values)


def test_triplet_margin_equals_loop_over_shared_labels():
    u = torch.nn.functional.normalize(torch.randn(8, 6, dtype=torch.float64))
    loss = losses.TripletMarginLoss(margin=0.4, reducer=reducers.MeanReducer())
    triplets = naive.multilabel_triplets(ROWS.tolist())
    expected = triplet_margin(u.tolist(), triplets, 0.4)
    assert MultiLabelLoss(loss)(u, ROWS).item() == pytest.approx(expected, rel=1e-10)


def test_gradcheck():
    u = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
    loss = MultiLabelLoss(losses.MultiSimilarityLoss())
    assert torch.autograd.gradcheck(lambda x: loss(x, ROWS), u)


class Spy(losses.TripletMarginLoss):
    def compute_loss(self, embeddings, labels, indices_tuple, ref_emb, ref_labels):
        self.seen = labels, indices_tuple
        return super().compute_loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)


def test_class_ids_pass_through_unchanged():
    spy = Spy()
    MultiLabelLoss(spy)(torch.randn(8, 6), IDS)
    assert spy.seen[0] is IDS
    assert spy.seen[1] is None


def test_a_number_of_triplets_per_anchor_is_kept():
    spy = Spy(triplets_per_anchor=7)
    loss, u = MultiLabelLoss(spy), torch.randn(8, 6)
    loss(u, ROWS)
    labels, triplets = spy.seen
    assert labels is None
    every = naive.multilabel_triplets(ROWS.tolist())
    drawn = list(zip(*(index.tolist() for index in triplets), strict=True))
    assert set(drawn) <= set(every)
    anchors = sorted({i for i, _, _ in every})
    assert sorted(i for i, _, _ in drawn) == sorted(anchors * 7)
    loss(u, ROWS)
    assert spy.seen[1][2].tolist() != triplets[2].tolist()
    loss(u, torch.ones(8, 3))  # no negatives
    assert len(spy.seen[1][0]) == 0


def test_all_triplets_reach_every_valid_one():
    spy = Spy(triplets_per_anchor=400)
    MultiLabelLoss(spy)(torch.randn(8, 6), ROWS)
    drawn = set(zip(*(index.tolist() for index in spy.seen[1]), strict=True))
    assert drawn == set(naive.multilabel_triplets(ROWS.tolist()))


def test_given_pairs_are_used_as_they_are():
    u = torch.randn(8, 6)
    pairs = tuple(torch.tensor(x) for x in ([0, 1], [1, 0], [2, 3], [4, 5]))
    found = MultiLabelLoss(losses.ContrastiveLoss())(u, ROWS, pairs)
    torch.testing.assert_close(found, losses.ContrastiveLoss()(u, None, pairs))
    without_labels = MultiLabelLoss(losses.ContrastiveLoss())(u, indices_tuple=pairs)
    torch.testing.assert_close(without_labels, found)


@pytest.mark.parametrize("rows", [ONE_HOT, IDS], ids=["one-hot", "class ids"])
@pytest.mark.parametrize("loss", [losses.ContrastiveLoss(), DPSHLoss()])
def test_miner(rows, loss):
    u = torch.randn(8, 6)
    miner = miners.MultiSimilarityMiner(epsilon=0.05)
    expected = loss(u, IDS, miner(u, IDS))
    assert expected != loss(u, IDS)
    torch.testing.assert_close(MultiLabelLoss(loss, miner=miner)(u, rows), expected)


def test_miner_with_references():
    u, ref = torch.randn(8, 6), torch.randn(5, 6)
    miner, loss = miners.BatchHardMiner(), losses.TripletMarginLoss()
    expected = loss(u, IDS, miner(u, IDS, ref, REF_IDS), ref, REF_IDS)
    rows = torch.nn.functional.one_hot(REF_IDS)
    wrapped = MultiLabelLoss(loss, miner)
    torch.testing.assert_close(wrapped(u, ONE_HOT, None, ref, rows), expected)
    torch.testing.assert_close(wrapped(u, IDS, None, ref, REF_IDS), expected)


def test_a_hashing_loss_gets_the_rows_themselves(monkeypatch):
    seen = []
    original = DPSHLoss.compute_loss

    def spy(self, embeddings, labels, *args):
        seen.append(labels)
        return original(self, embeddings, labels, *args)

    monkeypatch.setattr(DPSHLoss, "compute_loss", spy)
    u = torch.randn(8, 6)
    torch.testing.assert_close(MultiLabelLoss(DPSHLoss())(u, ROWS), DPSHLoss()(u, ROWS))
    assert all(labels is ROWS for labels in seen)


@pytest.mark.parametrize("label_type", [torch.bool, torch.uint8, torch.float32])
def test_rows_of_any_type(label_type):
    u, loss = torch.randn(8, 6), MultiLabelLoss(losses.ContrastiveLoss())
    torch.testing.assert_close(loss(u, ROWS.to(label_type)), loss(u, ROWS))


def test_regularizer_and_distance_of_the_inner_loss_are_kept():
    inner = losses.ContrastiveLoss(embedding_regularizer=_Regularizer())
    u, loss = torch.randn(8, 6), MultiLabelLoss(inner)
    plain = MultiLabelLoss(losses.ContrastiveLoss())(u, ROWS)
    torch.testing.assert_close(loss(u, ROWS), plain + 5)
    assert loss.distance is inner.distance


class _Regularizer(torch.nn.Module):
    def forward(self, embeddings):
        return embeddings.new_tensor(5.0)


def test_state_dict_round_trip():
    first = MultiLabelLoss(losses.MarginLoss(beta=0.7, learn_beta=True))
    second = MultiLabelLoss(losses.MarginLoss(learn_beta=True))
    second.load_state_dict(first.state_dict(), strict=True)
    u = torch.randn(8, 6)
    torch.testing.assert_close(second(u, ROWS), first(u, ROWS), rtol=0, atol=0)


def test_bfloat16_autocast_is_close():
    u, loss = torch.randn(8, 6), MultiLabelLoss(losses.ContrastiveLoss())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = loss(u, ROWS)
    torch.testing.assert_close(mixed, loss(u, ROWS), rtol=1e-2, atol=1e-2)


def test_learns_on_multi_hot_labels():
    u = (0.1 * torch.randn(8, 6)).requires_grad_()
    loss = MultiLabelLoss(losses.MultiSimilarityLoss())
    optimizer = torch.optim.Adam([u], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss(u, ROWS).backward()
        optimizer.step()
    codes = torch.nn.functional.normalize(u.detach())
    similar = LabelSets(ROWS)
    same = similar.unsqueeze(1) == similar.unsqueeze(0)
    assert (codes @ codes.T)[same].mean() > (codes @ codes.T)[~same].mean() + 0.5


CONTRASTIVE = losses.ContrastiveLoss()
WEIGHTED = reducers.ClassWeightedReducer(torch.ones(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiLabelLoss(losses.MultipleLosses([CONTRASTIVE])), "inside Multiple"),
        (lambda: MultiLabelLoss(torch.nn.MSELoss()), "single PML loss function, got MSE"),
        (lambda: MultiLabelLoss(MultiLabelLoss(CONTRASTIVE)), "is a wrapper itself"),
        (
            lambda: MultiLabelLoss(NMLoss(CONTRASTIVE, ProgressiveHead(6, bits=(6, 3)))),
            r"NMLoss\(MultiLabelLoss",
        ),
        (lambda: MultiLabelLoss(losses.MarginLoss(num_classes=3)), "beta a class"),
        (
            lambda: MultiLabelLoss(losses.TripletMarginLoss(triplets_per_anchor=None)),
            "triplets_per_anchor 'all' or a number, got None",
        ),
        (
            lambda: MultiLabelLoss(losses.ContrastiveLoss(reducer=WEIGHTED)),
            "ContrastiveLoss has a ClassWeightedReducer",
        ),
        (
            lambda: MultiLabelLoss(CONTRASTIVE, miners.DistanceWeightedMiner()),
            "DistanceWeightedMiner samples class by class",
        ),
        (
            lambda: MultiLabelLoss(CONTRASTIVE, miners.HDCMiner())(
                torch.randn(8, 6), ROWS, PAIRS
            ),
            "leave one of them out",
        ),
        (lambda: MultiLabelLoss(CONTRASTIVE)(torch.randn(7, 6), ROWS), "7 items but 8"),
        (
            lambda: MultiLabelLoss(CONTRASTIVE)(torch.randn(8, 6), 2 * ROWS),
            "must hold 0 and 1 only",
        ),
        (
            lambda: MultiLabelLoss(CONTRASTIVE)(torch.randn(8, 6), ROWS[..., None]),
            r"got \(8, 3, 1\)",
        ),
        (
            lambda: MultiLabelLoss(CONTRASTIVE)(
                torch.randn(8, 6), ROWS, ref_emb=torch.randn(2, 6)
            ),
            "ref_emb came without ref_labels",
        ),
        (
            lambda: MultiLabelLoss(CONTRASTIVE)(
                torch.randn(8, 6), ROWS, ref_emb=torch.randn(2, 6), ref_labels=IDS[:2]
            ),
            "of one kind",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
