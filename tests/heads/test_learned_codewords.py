"""Codewords of classes: learned by layers, pulled to by NMLoss, added by a classifier."""

import copy

import pytest
import torch
from pytorch_metric_learning import losses
from torch import nn
from torch.nn import functional as F

from pml_nmlayer.classes.objectives import class_nll
from pml_nmlayer.classes.semantic_codebook import semantic_codebook
from pml_nmlayer.codes import binarize
from pml_nmlayer.layers import NMLayer, ProgressiveHead
from pml_nmlayer.losses import CSQLoss, DPSHLoss, HashNetLoss, NMLoss
from pml_nmlayer.merging.scorers import Codewords
from pml_nmlayer.merging.targets import groups_for_targets
from pml_nmlayer.ranking import mean_average_precision
from tests import naive
from tests.digits import digits

LABELS = torch.arange(32) % 4


def merged_head(num_classes=4, **options):
    """Of 6 bits; with 8 classes, NMLoss pulls to codewords instead of reading labels."""
    torch.manual_seed(0)
    head = ProgressiveHead(6, bits=(12, 6), num_classes=num_classes, **options)
    head.observe(head(torch.randn(32, 6)), LABELS)
    head.merge_next()
    head.forget_passes()
    return head


@pytest.mark.parametrize("spare", [0, 3])
def test_a_merge_finds_codewords_near_the_means_of_the_long_or_the_merged_code(spare):
    long = merged_head(spare_codewords=spare).layers[0]
    merged = merged_head(spare_codewords=spare, scorer="correlation").layers[0]
    assert isinstance(long.scorer, Codewords)
    for layer, means in (
        (long, long.class_means.mean),
        (merged, merged.class_means.mean @ merged.merge_matrix().T),
    ):
        assert torch.equal(layer.codewords, semantic_codebook(means, 6, spare=spare))
        assert len(layer.codewords.unique(dim=0)) == 4


@pytest.mark.parametrize(
    "labels", [torch.zeros(32).long(), torch.zeros(32, 3)], ids=["1", "0"]
)
def test_with_one_class_or_none_seen_groups_are_sound(labels):
    layer = NMLayer(12, 6, num_classes=1 if labels.ndim == 1 else 3)
    layer.observe(torch.randn(32, 12), labels)
    layer.freeze()
    assert torch.bincount(layer.groups).tolist() == [2] * 6
    totals = torch.zeros(6).index_add(0, layer.groups, layer.weights.abs())
    torch.testing.assert_close(totals, torch.ones(6))
    assert layer.codewords.abs().eq(1).all()


def test_bad_spare_codewords():
    with pytest.raises(ValueError, match=r"spare_codewords=1 is of no use without num_cla"):
        ProgressiveHead(6, bits=(12, 6), spare_codewords=1)
    for spare, num_classes in ((-1, 4), (1, None)):
        with pytest.raises(ValueError, match=f"spare_codewords={spare}, num_classes="):
            NMLayer(12, 6, num_classes=num_classes, spare_codewords=spare)
    saved = merged_head(spare_codewords=2).state_dict()
    with pytest.raises(ValueError, match="spare_codewords: 2, here 0"):
        merged_head().load_state_dict(saved)


def test_targets_are_codewords_and_votes():
    layer = merged_head().layers[0]
    words = layer.codewords
    assert torch.equal(layer.codeword_targets(LABELS), words[LABELS])
    rows = F.one_hot(LABELS, 4)
    rows[:, 1] = 1
    votes = layer.codeword_targets(rows)
    both = words[LABELS] + words[1]
    assert torch.equal(votes[both != 0], both[both != 0].sign())
    assert torch.equal(votes[both == 0], layer.tie_bits.expand_as(both)[both == 0])


def test_no_codewords_before_a_merge_or_unless_asked_for():
    active = ProgressiveHead(6, bits=(12, 6), num_classes=4)
    assert active.codeword_nll(active(torch.randn(32, 6)), LABELS) is None
    assert active.layers[0].codeword_targets(LABELS) is None
    plain = ProgressiveHead(6, bits=(12, 6))
    plain.observe(plain(torch.randn(32, 6)), LABELS)
    plain.merge_next()
    assert plain.codeword_nll(plain(torch.randn(32, 6)), LABELS) is None
    assert not any("codewords" in name for name in plain.state_dict())


@pytest.mark.parametrize("activation", ["tanh", None])
@pytest.mark.parametrize("lift", [False, True])
def test_the_distance_is_the_cross_entropy_of_bits(activation, lift):
    head = merged_head(activation=activation, lift=lift)
    x = torch.randn(32, 6)
    p = head.classifier(x).softmax(1)
    readout = head.readout * (4 / 6) ** 0.5 * p @ head.layers[0].codewords
    u = (head.linear(x) @ head.merge_matrix().T + readout).double()
    targets = head.layers[0].codewords[LABELS].double()
    expected = F.binary_cross_entropy_with_logits(2 * u, (targets + 1) / 2)
    distance = head.codeword_nll(head(x), LABELS)
    torch.testing.assert_close(distance.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", [(None, None), (3, 2), (3, 0), (0, 2), (0, 0)])
@pytest.mark.parametrize("lift", [False, True])
def test_the_loss_pulls_and_teaches_by_its_weights(weights, lift):
    head, x = merged_head(num_classes=8, lift=lift), torch.randn(32, 6)
    base, h = losses.SupConLoss(), head(x)
    defaults = 10 if lift else 1 - 6 / 8, 1
    pull, teach = (
        default if weight is None else weight
        for weight, default in zip(weights, defaults, strict=True)
    )
    expected = base(h, LABELS) + pull * head.codeword_nll(h, LABELS)
    expected = expected + teach * class_nll(head.classifier(x), LABELS)
    loss = NMLoss(base, head, *weights, label_weight=0)
    torch.testing.assert_close(loss(h, LABELS), expected)
    assert not head._passes  # nothing is kept, whatever the weights


def test_all_lengths_of_a_joint_head_have_their_own_codewords():
    torch.manual_seed(0)
    head = ProgressiveHead(6, bits=(12, 6, 3), num_classes=4, longer="joint")
    loss = NMLoss(losses.SupConLoss(), head, codeword_weight=2, label_weight=5)
    x = torch.randn(32, 6)
    for _ in range(2):
        loss(head(x), LABELS)
        head.merge_next()
    value, h = loss(head(x), LABELS), head(x)
    nll = class_nll(head.classifier(x), LABELS)
    by_length = {12: head.take_longer_outputs()[0], 6: None, 3: h}
    head(x)
    by_length[6] = head.take_longer_outputs()[1]
    expected = [
        losses.SupConLoss()(out, LABELS)
        + (0 if bits == 12 else 2 * head.codeword_nll(out, LABELS, bits))
        + 5 * head.label_residual(out, LABELS, bits)
        for bits, out in by_length.items()
    ]
    torch.testing.assert_close(value, torch.stack(expected).mean() + nll)


def test_state_and_reopening():
    head = merged_head()
    other = ProgressiveHead(6, bits=(12, 6), num_classes=4)
    other.load_state_dict(copy.deepcopy(head.state_dict()))
    x = torch.randn(32, 6)
    assert torch.equal(other.layers[0].codewords, head.layers[0].codewords)
    assert torch.equal(
        other.codeword_nll(other(x), LABELS), head.codeword_nll(head(x), LABELS)
    )
    assert torch.equal(other.eval()(x), head.eval()(x))
    with pytest.raises(ValueError, match=r"num_classes: 4, here None; readout: 0\.6, here"):
        ProgressiveHead(6, bits=(12, 6)).load_state_dict(head.state_dict())
    for readout in (0, 0.3):
        other = ProgressiveHead(6, bits=(12, 6), num_classes=4, readout=readout)
        with pytest.raises(ValueError, match=rf"readout: 0\.6, here {readout}"):
            other.load_state_dict(head.state_dict())
    head.reopen()
    assert not head.layers[0].codewords.any()
    assert not head.layers[0].class_means.items.any()


def test_saturated_and_empty_batches_are_finite():
    head = merged_head()
    wrong = -head.layers[0].codewords[LABELS].requires_grad_()
    distance = head.codeword_nll(wrong, LABELS)
    distance.backward()
    assert distance.isfinite()
    assert head.codeword_nll(torch.zeros(0, 6), LABELS[:0]) == 0
    assert head.class_nll(head(torch.zeros(0, 6)), LABELS[:0]) == 0


VARIANTS = [
    {},
    {"merge": "tanh"},
    {"activation": None},
    {"lift": True},
    {"batch_norm": True},
    {"longer": "joint"},
    {"longer": "joint", "merge": "tanh", "batch_norm": True},
    {"longer": "drop", "readout": 2.5},
    {"readout": 0},
]


def in_stages(**options):
    """A head before, between and after its merges; it moves on after each."""
    torch.manual_seed(0)
    head = ProgressiveHead(6, bits=(12, 6, 3), num_classes=4, **options)
    for stage in range(3):
        if stage:
            head.merge_next()
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        head.train()
        head.observe(head(torch.randn(32, 6)), LABELS)
        yield stage, head.eval()


def outputs_of_loops(head, x, stage):
    """What a head puts out in eval mode, had it made that many merges."""
    u = head.linear(x) if head.norm is None else head.norm(head.linear(x))
    layers = list(head.layers)[:stage]
    scores = torch.zeros(len(x), 4) if head.classifier is None else head.classifier(x)
    outputs = naive.head_outputs(
        u.tolist(),
        [(layer.groups.tolist(), layer.weights.tolist()) for layer in layers],
        scores.tolist(),
        layers[-1].codewords.tolist() if layers else [],
        head.readout,
        head.merge,
        head.activation == "tanh",
    )
    return torch.tensor(outputs)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_outputs_equal_the_loop(options):
    x = torch.randn(20, 6)
    for stage, head in in_stages(**options):
        expected = outputs_of_loops(head, x, stage)
        torch.testing.assert_close(head(x), expected, rtol=0, atol=1e-6)
        if head.norm is None:
            h = head.train()(x)
            h = head._unlifted(h, stage) if head.lift else h
            torch.testing.assert_close(h, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_folds_and_codes_of_all_lengths_equal_the_head(options):
    x = torch.randn(200, 6)
    expected = {}
    for _, head in in_stages(**options):
        expected[head.bits] = head(x)
        torch.testing.assert_close(head.fold()(x), head(x), rtol=0, atol=1e-6)
    if head.longer == "joint":
        expected = {
            bits: outputs_of_loops(head, x, stage) for stage, bits in enumerate(expected)
        }
    for bits, outputs in expected.items() if head.longer != "drop" else [(3, head(x))]:
        torch.testing.assert_close(head.fold(bits)(x), outputs, rtol=0, atol=1e-6)
        sure = outputs.abs() > 1e-6
        assert torch.equal(head.codes(x, bits)[sure], binarize(outputs)[sure])


def test_without_a_readout_it_is_a_head_that_finds_codewords():
    x, heads = torch.randn(32, 6), []
    for options in ({}, {"num_classes": 4, "readout": 0}):
        torch.manual_seed(0)
        head = ProgressiveHead(6, bits=(12, 6), scorer="correlation", **options)
        head.observe(head(x), LABELS)
        head.merge_next()
        heads.append(head)
    plain, head = heads
    assert [name for name, _ in head.named_parameters()] == ["linear.weight", "linear.bias"]
    assert torch.equal(head(x), plain(x))
    assert torch.equal(head.fold()(x), plain.fold()(x))
    assert head.class_nll(head(x), LABELS) is None
    base, h = losses.SupConLoss(), head(x)
    expected = base(h, LABELS) + 3 * head.label_residual(h, LABELS)
    torch.testing.assert_close(NMLoss(base, head)(h, LABELS), expected)


def test_a_pass_is_known_by_its_outputs_and_then_forgotten():
    head = merged_head()
    x, y = torch.randn(2, 32, 6)
    for first in (True, False):
        passes = [head(x), head(y)]
        nll = head.class_nll(passes[0 if first else 1], LABELS)
        assert nll == class_nll(head.classifier(x if first else y), LABELS)
        for outputs in passes:
            with pytest.raises(ValueError, match=r"32 embeddings, .* had \[\] items"):
                head.class_nll(outputs, LABELS)


def test_outputs_that_were_sliced_or_put_together():
    head = merged_head()
    x, y, z = torch.randn(32, 6), torch.randn(32, 6), torch.randn(12, 6)
    head(x)
    nll = head.class_nll(head(y)[:, 2:], LABELS)
    assert nll == class_nll(head.classifier(y), LABELS)  # that of the latest pass
    labels = torch.cat([LABELS, LABELS[:12]])
    for parts in ([y, z], [z, y]):
        head(x)  # one pass too many is no matter
        nll = head.class_nll(torch.cat([head(part) for part in parts]), labels)
        expected = class_nll(head.classifier(torch.cat(parts)), labels)
        torch.testing.assert_close(nll, expected)


def test_the_classifier_and_the_trunk_learn_from_the_classes():
    head, x = merged_head(), torch.randn(32, 6, requires_grad=True)
    head.class_nll(head(x), LABELS).backward()
    found = [x.grad, head.classifier.weight.grad, head.classifier.bias.grad]
    assert head.linear.weight.grad is None
    scores = F.linear(x, head.classifier.weight, head.classifier.bias)
    wanted = (x, head.classifier.weight, head.classifier.bias)
    expected = torch.autograd.grad(F.cross_entropy(scores, LABELS), wanted)
    torch.testing.assert_close(found, list(expected))
    head.zero_grad()
    head(x).sum().backward()  # and from the code
    assert head.classifier.weight.grad.any()


def test_multi_hot_labels_and_items_without_classes():
    head, x = merged_head(), torch.randn(32, 6)
    rows = F.one_hot(LABELS, 4)
    assert head.class_nll(head(x), rows) == head.class_nll(head(x), LABELS)
    rows[:, 1] = 1
    rows[:8] = 0
    value = NMLoss(DPSHLoss(), head)(head(x), rows)
    expected = naive.class_nll(head.classifier(x).tolist(), rows.tolist())
    torch.testing.assert_close(head.class_nll(head(x), rows).item(), expected)
    without = NMLoss(DPSHLoss(), head, class_weight=0)(head(x), rows)
    torch.testing.assert_close(value.item(), without.item() + expected)
    assert head.class_nll(head(x), torch.zeros_like(rows)) == 0


@pytest.mark.parametrize("classes", [4, 6, 7])
@pytest.mark.parametrize("kind", ["ids", "rows"])
@pytest.mark.parametrize("lift", [False, True])
@pytest.mark.parametrize(
    "given", [(None, None), (2.0, None), (None, 0.5), (2.0, 0.5), (0, 0)], ids=str
)
def test_what_is_added_depends_on_the_classes_unless_given(classes, kind, lift, given):
    head, x = merged_head(num_classes=classes, lift=lift), torch.randn(32, 6)
    labels, defaults = LABELS, (1 / 7 if classes == 7 else 0, 3)  # 6 bits
    if kind == "rows":
        labels = F.one_hot(LABELS, classes) | F.one_hot(LABELS // 2, classes)
    elif lift:
        defaults = (10, 3)
    pull, read = (
        default if weight is None else weight
        for weight, default in zip(given, defaults, strict=True)
    )
    loss = NMLoss(DPSHLoss(), head, given[0], class_weight=0, label_weight=given[1])
    assert loss.codeword_weight(labels) == pytest.approx(pull)
    assert loss.label_weight == read
    h = head(x)
    expected = DPSHLoss()(h, labels) + pull * head.codeword_nll(h, labels)
    expected = expected + read * head.label_residual(h, labels)
    torch.testing.assert_close(loss(h, labels), expected)


@pytest.mark.parametrize("activation", ["tanh", None])
@pytest.mark.parametrize("lift", [False, True])
def test_labels_are_read_from_the_bits_of_every_stage(activation, lift):
    torch.manual_seed(0)
    head = ProgressiveHead(6, (12, 6), num_classes=4, activation=activation, lift=lift)
    x, rows = torch.randn(32, 6), F.one_hot(LABELS, 4) | F.one_hot(LABELS // 2, 4)
    for _ in range(2):
        expected = naive.label_residual(head.codes(x).tolist(), rows.tolist(), 0.3)
        h = head(x)
        value = head.label_residual(h, rows)
        torch.testing.assert_close(value.item(), expected, rtol=1e-4, atol=1e-5)
        (slope,) = torch.autograd.grad(value, head.linear.weight)
        assert slope.any()
        if not head.finished:
            head.observe(h, rows)
            head.merge_next()
    # a linear output that is sure of its bit is left in peace
    sure = 50 * torch.ones(32, 6)
    sure = (head.layers[0].lift(sure) if lift else sure).requires_grad_()
    (slope,) = torch.autograd.grad(head.label_residual(sure, rows), sure)
    assert slope.any() == (activation == "tanh")


def test_all_lengths_of_a_joint_head_can_be_read():
    torch.manual_seed(0)
    head = ProgressiveHead(6, bits=(12, 6), num_classes=4, longer="joint", readout=0)
    x, rows = torch.randn(32, 6), F.one_hot(LABELS, 4) | F.one_hot(LABELS // 2, 4)
    head.observe(head(x), rows)
    head.merge_next()
    h = head(x)
    (longer,) = head.take_longer_outputs()
    expected = [
        DPSHLoss()(out, rows) + 3 * head.label_residual(out, rows, bits)
        for out, bits in ((longer, 12), (h, 6))
    ]
    value = NMLoss(DPSHLoss(), head)(head(x), rows)
    torch.testing.assert_close(value, torch.stack(expected).mean())


def test_a_head_that_knows_of_no_classes_reads_no_labels():
    head, x = ProgressiveHead(6, bits=(12, 6)), torch.randn(32, 6)
    rows = F.one_hot(LABELS, 4)
    assert head.label_residual(head(x), rows) is None
    assert NMLoss(DPSHLoss(), head)(head(x), rows) == DPSHLoss()(head(x), rows)


@pytest.mark.parametrize("lift", [False, True])
def test_the_scorer_finds_codewords_first_and_merges_towards_them(lift):
    torch.manual_seed(0)
    head = ProgressiveHead(6, (12, 6), scorer="codewords", num_classes=4, lift=lift)
    x = 2 * F.one_hot(LABELS, 6) + torch.randn(32, 6)
    head.observe(head(x), LABELS)
    layer = head.layers[0]
    codes = binarize(head(x))
    head.merge_next()
    rows = F.one_hot(LABELS, 4).float()
    expected = semantic_codebook(rows.T @ codes / 8, 6)
    assert torch.equal(layer.codewords, expected)
    targets = expected[LABELS]
    groups, weights = groups_for_targets(codes.T @ codes / 32, codes.T @ targets / 32, 2)
    assert torch.equal(layer.groups, groups)
    total = torch.zeros(6).index_add_(0, groups, weights.abs())
    torch.testing.assert_close(layer.weights, weights / total[groups], rtol=1e-4, atol=1e-5)
    # so the bits of the merged code agree with the codewords better than random ones do
    assert (codes @ layer.merge_matrix().T * targets > 0).float().mean() > 0.6


def test_only_training_with_gradient_keeps_passes():
    head, x = merged_head(), torch.randn(32, 6)
    with torch.no_grad():
        head(x)
    with torch.inference_mode():
        head(x)
    head.eval()(x)
    head.codes(x)
    assert head._passes == []
    head.train()
    for _ in range(5):
        h = head(x)
    assert len(head._passes) == 2
    NMLoss(losses.SupConLoss(), head).eval()(h, LABELS)
    assert len(head._passes) == 2
    head.forget_passes()
    assert head._passes == []


def test_a_head_is_copied_right_after_a_pass():
    head, x = merged_head(), torch.randn(32, 6)
    h = head(x)
    model, loss = copy.deepcopy((head, NMLoss(losses.SupConLoss(), head)))
    assert loss.head is model
    assert model._passes == []
    loss(model(x), LABELS)
    assert head.class_nll(h, LABELS) == class_nll(head.classifier(x), LABELS)


def test_half_precision():
    head = merged_head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = NMLoss(losses.ContrastiveLoss(), head)(head(torch.randn(32, 6)), LABELS)
    value.backward()
    assert value.isfinite()


def head_with(readout=0.6, class_weight=None):
    head = ProgressiveHead(6, bits=(12, 6), num_classes=4, readout=readout)
    NMLoss(losses.SupConLoss(), head, class_weight=class_weight)


def classify(items, labels, passes=1):
    head = merged_head()
    outputs = torch.cat([head(torch.randn(32, 6)) for _ in range(passes)])
    return head.class_nll(outputs[:items], labels)


def classify_twice():
    head = merged_head()
    loss, outputs = NMLoss(losses.SupConLoss(), head), head(torch.randn(32, 6))
    return loss(outputs, LABELS) + loss(outputs, LABELS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_a_head_in_another_precision(dtype):
    head, x = merged_head().to(dtype), torch.randn(32, 6, dtype=dtype)
    h = head(x)
    assert h.dtype == dtype
    value = NMLoss(losses.SupConLoss(), head)(h, LABELS)
    value.backward()
    single = merged_head()
    expected = NMLoss(losses.SupConLoss(), single)(single(x.float()), LABELS)
    torch.testing.assert_close(value.float(), expected, rtol=1e-2, atol=0)
    assert all(p.grad.isfinite().all() for p in head.parameters())
    torch.testing.assert_close(head.fold()(x), h, rtol=0, atol=3e-2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NMLayer(8, 2, num_classes=5), "2 bits have 4 codes, too few"),
        (lambda: NMLayer(8, 2, num_classes=0), "num_classes >= 1"),
        (
            lambda: NMLayer(8, 4, scorer="random", num_classes=3).observe(torch.ones(2, 8)),
            "codewords of 3 classes need labels",
        ),
        (
            lambda: NMLayer(8, 4, num_classes=3).observe(
                torch.ones(2, 8), torch.tensor([0, 3])
            ),
            r"\[0, num_classes=3\)",
        ),
        (lambda: merged_head().codeword_nll(torch.zeros(32, 6), None), "need labels"),
        (lambda: merged_head().codeword_nll(torch.zeros(32, 7), LABELS), r"\(B, 6\)"),
        (lambda: merged_head().codeword_nll(torch.zeros(32, 6), LABELS[:3]), "but 3"),
        (
            lambda: NMLoss(losses.SupConLoss(), merged_head(), codeword_weight=-1),
            "codeword_weight must be >= 0",
        ),
        (
            lambda: NMLoss(
                losses.SupConLoss(), ProgressiveHead(6, bits=(12, 6)), codeword_weight=1
            ),
            "codeword_weight=1 needs a head that finds codewords",
        ),
        (
            lambda: NMLoss(losses.SupConLoss(), merged_head(), label_weight=-1),
            "label_weight must be >= 0",
        ),
        (
            lambda: NMLoss(
                losses.SupConLoss(), ProgressiveHead(6, bits=(12, 6)), label_weight=1
            ),
            "label_weight=1 needs a head that knows classes",
        ),
        (lambda: merged_head().label_residual(torch.zeros(32, 6), None), "needs labels"),
        (lambda: merged_head().label_residual(torch.zeros(32, 7), LABELS), r"\(B, 6\)"),
        (lambda: merged_head().label_residual(torch.zeros(32, 6), LABELS[:3]), "but 3"),
        (
            lambda: merged_head().label_residual(torch.zeros(32, 6), LABELS, bits=3),
            "reached so far, 12, 6; got 3",
        ),
        (lambda: merged_head().codewords(12), "num_classes; got stage 0"),
        (lambda: merged_head().codewords(3), "reached so far, 12, 6; got 3"),
        (
            lambda: ProgressiveHead(6, bits=(12, 6)).codewords(),
            "got stage 0 of a head with num_classes=None",
        ),
        (lambda: NMLayer(8, 4, scorer="codewords"), "Codewords.* needs num_classes"),
        (lambda: head_with(readout=-0.1), "readout must be >= 0, .*got readout=-0.1"),
        (
            lambda: ProgressiveHead(6, bits=(12, 6), readout=0.6),
            "of a head with num_classes; got readout=0.6, num_classes=None",
        ),
        (lambda: head_with(class_weight=-1), "class_weight must be >= 0, got -1"),
        (
            lambda: head_with(readout=0, class_weight=1),
            "class_weight=1 needs a head with a classifier: .* readout > 0",
        ),
        (
            lambda: NMLoss(
                losses.SupConLoss(), ProgressiveHead(6, bits=(12, 6)), class_weight=1
            ),
            "class_weight=1 needs a head with a classifier",
        ),
        (lambda: classify(32, None), "a classifier of 4 classes needs labels"),
        (lambda: classify(32, LABELS[:3]), "got 32 items but 3 labels"),
        (lambda: classify(32, LABELS[:, None]), "num_classes=4 columns, got 1"),
        (lambda: classify(32, LABELS + 1), r"\[0, num_classes=4\), got 1 to 4"),
        (
            lambda: classify(31, LABELS[:31]),
            r"got 31 embeddings, but .* had \[32\] items: pass the head's own outputs",
        ),
        (lambda: classify(16, LABELS[:16], passes=2), r"had \[32, 32\] items"),
        (lambda: classify(96, LABELS.repeat(3), passes=3), r"had \[32, 32\] items"),
        (lambda: classify_twice(), r"got 32 embeddings, but .* had \[\] items: .* once"),
        (lambda: ProgressiveHead(6, bits=(6,), num_classes=4), r"bits=\(6,\) has none"),
        (
            lambda: ProgressiveHead(6, bits=(12, 6), num_classes=4).codeword_nll(
                torch.zeros(32, 6), LABELS, bits=6
            ),
            "reached so far, 12; got 6",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: losses.SupConLoss(), {}),
        (lambda: HashNetLoss(), {"activation": None}),
        (lambda: CSQLoss(10, 32), {"activation": None, "lift": True}),
        (
            lambda: losses.ProxyAnchorLoss(num_classes=10, embedding_size=32),
            {"lift": True},
        ),
    ],
    ids=["SupCon", "HashNet", "CSQ", "ProxyAnchor"],
)
def test_short_codes_of_real_images_profit(make, options):
    (x, y), (queries, wanted) = (part.tensors for part in digits())
    scores = {}
    for classes in (None, 10):
        torch.manual_seed(0)
        head = ProgressiveHead(64, bits=(32, 6), num_classes=classes, **options)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), head)
        loss = NMLoss(make(), head)
        optimizer = torch.optim.Adam([*model.parameters(), *loss.parameters()], lr=1e-2)
        for step in range(150):
            rows = torch.randint(500, (128,))
            optimizer.zero_grad()
            loss(model(x[rows]), y[rows]).backward()
            optimizer.step()
            if step == 40:
                head.merge_next()
        query, database = head.codes(model[:2](queries)), head.codes(model[:2](x))
        scores[classes] = mean_average_precision(query, wanted, database, y)
    assert scores[10] > scores[None] + 0.01
