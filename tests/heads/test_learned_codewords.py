"""Codewords of classes: found by merges, pulled to by NMLoss, added by a classifier."""

import copy

import pytest
import torch
from pytorch_metric_learning import losses
from torch import nn
from torch.nn import functional as F

from pml_nmlayer.classes.objectives import class_nll, codeword_nll, label_residual
from pml_nmlayer.classes.read_out import ClassReadOut
from pml_nmlayer.classes.semantic_codebook import semantic_codebook
from pml_nmlayer.classes.terms import ClassTerms
from pml_nmlayer.codes import binarize, sign_ste
from pml_nmlayer.heads.outputs import unpack
from pml_nmlayer.layers import ProgressiveHead
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
    return head


def pull_of(head, embeddings, labels, bits=None):
    """Distance of outputs to the codewords of their classes, without any weight."""
    bits = head.bits if bits is None else bits
    outputs = head.code_outputs(unpack(embeddings)[0].embeddings, bits)
    targets = head.classes.targets(labels, bits)
    return codeword_nll(outputs, targets, tanh=head.activation == "tanh")


def residual_of(head, embeddings, labels, bits=None):
    """What labels have left once the bits of outputs are read, without any weight."""
    bits = head.bits if bits is None else bits
    outputs = head.code_outputs(unpack(embeddings)[0].embeddings, bits)
    codes = sign_ste(outputs if head.activation else outputs.tanh())
    return label_residual(codes, labels, head.num_classes, 0.3)


def nll_of(head, embeddings, labels):
    """Cross-entropy of the scores that outputs carry."""
    return class_nll(head.unpack(embeddings).class_scores, labels)


@pytest.mark.parametrize("spare", [0, 3])
def test_a_merge_finds_codewords_near_the_means_of_the_long_or_the_merged_code(spare):
    long = merged_head(spare_codewords=spare)
    merged = merged_head(spare_codewords=spare, scorer="correlation")
    assert isinstance(long.layers[0].scorer, Codewords)
    means = merged.class_means.of(12).mean @ merged.merge_matrix().T
    for head, known in ((long, long.class_means.of(12).mean), (merged, means)):
        words = head.classes.codewords(6)
        assert torch.equal(words, semantic_codebook(known, 6, spare=spare))
        assert torch.equal(words, head.codewords())
        assert len(words.unique(dim=0)) == 4


@pytest.mark.filterwarnings("ignore:0 of 3 classes were seen")
@pytest.mark.parametrize(
    "labels", [torch.zeros(32).long(), torch.zeros(32, 3)], ids=["1", "0"]
)
def test_with_one_class_or_none_seen_groups_are_sound(labels):
    head = ProgressiveHead(6, (12, 6), num_classes=1 if labels.ndim == 1 else 3)
    head.observe(torch.randn(32, 12), labels)
    head.merge_next()
    layer = head.layers[0]
    assert torch.bincount(layer.groups).tolist() == [2] * 6
    totals = torch.zeros(6).index_add(0, layer.groups, layer.weights.abs())
    torch.testing.assert_close(totals, torch.ones(6))
    assert head.codewords().abs().eq(1).all()


def test_bad_spare_codewords():
    for spare in (1, -1):
        message = (
            f"no use without num_classes; .* spare_codewords={spare}, num_classes=None"
        )
        with pytest.raises(ValueError, match=message):
            ProgressiveHead(6, bits=(12, 6), spare_codewords=spare)
    with pytest.raises(ValueError, match="spare_codewords must be >= 0, got -1"):
        ProgressiveHead(6, bits=(12, 6), num_classes=4, spare_codewords=-1)
    saved = merged_head(spare_codewords=2).state_dict()
    with pytest.raises(ValueError, match="spare_codewords: 2, here 7"):
        merged_head().load_state_dict(saved)


@pytest.mark.parametrize(
    ("classes", "spare"), [(4, 7), (512, 7), (513, 6), (1000, 3), (2049, 0), (5000, 0)]
)
def test_more_classes_have_fewer_spare_codewords(classes, spare):
    assert ClassReadOut(2, classes, (16,)).spare_codewords == spare
    head = ProgressiveHead(2, bits=16, num_classes=classes)
    assert head.configuration["spare_codewords"] == spare
    assert classes * (1 + spare) <= max(4096, classes)


def test_targets_are_codewords_and_votes():
    classes = merged_head().classes
    words = classes.codewords(6)
    assert torch.equal(classes.targets(LABELS, 6), words[LABELS])
    rows = F.one_hot(LABELS, 4)
    rows[:, 1] = 1
    votes = classes.targets(rows, 6)
    both = words[LABELS] + words[1]
    assert torch.equal(votes[both != 0], both[both != 0].sign())
    assert torch.equal(votes[both == 0], classes.tie_bits_6.expand_as(both)[both == 0])


def test_no_codewords_before_a_merge_or_unless_asked_for():
    active = ProgressiveHead(6, bits=(12, 6), num_classes=4)
    loss = NMLoss(losses.SupConLoss(), active, class_terms=ClassTerms(codeword_weight=1))
    terms = loss.terms(active(torch.randn(32, 6)), LABELS)
    assert list(terms) == ["loss", "labels", "classes"]
    assert not active.classes.codewords(6).any()
    plain = ProgressiveHead(6, bits=(12, 6))
    plain.observe(plain(torch.randn(32, 6)), LABELS)
    plain.merge_next()
    terms = NMLoss(losses.SupConLoss(), plain).terms(plain(torch.randn(32, 6)), LABELS)
    assert list(terms) == ["loss"]
    assert plain.classes is None
    assert not any("codewords" in name for name in plain.state_dict())


@pytest.mark.parametrize("activation", ["tanh", None])
@pytest.mark.parametrize("constant_width", [False, True])
def test_the_distance_is_the_cross_entropy_of_bits(activation, constant_width):
    head = merged_head(activation=activation, constant_width=constant_width)
    x = torch.randn(32, 6)
    p = head.classes.classifier(x).softmax(1)
    readout = head.readout * (4 / 6) ** 0.5 * p @ head.codewords()
    u = (head.linear(x) @ head.merge_matrix().T + readout).double()
    targets = head.codewords()[LABELS].double()
    expected = F.binary_cross_entropy_with_logits(2 * u, (targets + 1) / 2)
    weighted = ClassTerms(codeword_weight=2)
    loss = NMLoss(losses.SupConLoss(), head, class_terms=weighted)
    distance = loss.terms(head(x), LABELS)["codewords"]
    torch.testing.assert_close(distance.double(), 2 * expected, rtol=1e-5, atol=1e-6)
    assert distance == 2 * pull_of(head, head(x), LABELS)


@pytest.mark.parametrize("weights", [(None, None), (3, 2), (3, 0), (0, 2), (0, 0)])
@pytest.mark.parametrize("constant_width", [False, True])
def test_the_loss_pulls_and_teaches_by_its_weights(weights, constant_width):
    head = merged_head(num_classes=8, constant_width=constant_width)
    base, x = losses.SupConLoss(), torch.randn(32, 6)
    h = head(x)
    defaults = 10 if constant_width else 1 - 6 / 8, 1
    pull, teach = (
        default if weight is None else weight
        for weight, default in zip(weights, defaults, strict=True)
    )
    expected = {
        "loss": base(h, LABELS),
        "codewords": pull * pull_of(head, h, LABELS),
        "classes": teach * class_nll(head.classes.classifier(x), LABELS),
    }
    expected = {n: v for n, v in expected.items() if n == "loss" or v != 0}
    terms = ClassTerms(codeword_weight=weights[0], class_weight=weights[1], label_weight=0)
    loss = NMLoss(base, head, class_terms=terms)
    torch.testing.assert_close(loss.terms(h, LABELS), expected)
    torch.testing.assert_close(loss(h, LABELS), sum(expected.values()))
    torch.testing.assert_close(loss(head.outputs(x), LABELS), sum(expected.values()))


def test_all_lengths_of_a_joint_head_have_their_own_codewords():
    torch.manual_seed(0)
    head = ProgressiveHead(6, bits=(12, 6, 3), num_classes=4, longer="joint")
    weights = ClassTerms(codeword_weight=2, label_weight=5)
    loss = NMLoss(losses.SupConLoss(), head, class_terms=weights)
    x = torch.randn(32, 6)
    for _ in range(2):
        loss(head(x), LABELS)
        head.merge_next()
    value, outputs = loss(head(x), LABELS), head.outputs(x)
    nll = class_nll(head.classes.classifier(x), LABELS)
    by_length = dict(zip((12, 6, 3), (*outputs.longer, outputs.embeddings), strict=True))
    expected = [
        losses.SupConLoss()(out, LABELS)
        + (0 if bits == 12 else 2 * pull_of(head, out, LABELS, bits))
        + 5 * residual_of(head, out, LABELS, bits)
        for bits, out in by_length.items()
    ]
    torch.testing.assert_close(value, torch.stack(expected).mean() + nll)
    terms = loss.terms(outputs, LABELS)
    torch.testing.assert_close(sum(terms.values()), value)
    pulls = [2 * pull_of(head, by_length[bits], LABELS, bits) for bits in (6, 3)]
    torch.testing.assert_close(terms["codewords"], sum(pulls) / 3)


def test_state():
    head = merged_head()
    other = ProgressiveHead(6, bits=(12, 6), num_classes=4)
    other.load_state_dict(copy.deepcopy(head.state_dict()))
    x = torch.randn(32, 6)
    assert torch.equal(other.codewords(), head.codewords())
    assert torch.equal(pull_of(other, other(x), LABELS), pull_of(head, head(x), LABELS))
    assert torch.equal(other.eval()(x), head.eval()(x))
    with pytest.raises(ValueError, match=r"num_classes: 4, here None; readout: 0\.6, here"):
        ProgressiveHead(6, bits=(12, 6)).load_state_dict(head.state_dict())
    for readout in (0, 0.3):
        other = ProgressiveHead(6, bits=(12, 6), num_classes=4, readout=readout)
        with pytest.raises(ValueError, match=rf"readout: 0\.6, here {readout}"):
            other.load_state_dict(head.state_dict())


def test_saturated_and_empty_batches_are_finite():
    head = merged_head()
    wrong = (-head.codewords()[LABELS]).requires_grad_()
    terms = ClassTerms(codeword_weight=1, class_weight=0)
    loss = NMLoss(DPSHLoss(), head, class_terms=terms)
    distance = loss.terms(wrong, LABELS)["codewords"]
    distance.backward()
    assert distance.isfinite()
    assert wrong.grad.isfinite().all()
    terms = NMLoss(DPSHLoss(), head, class_terms=ClassTerms(codeword_weight=1)).terms(
        head(torch.zeros(0, 6)), LABELS[:0]
    )
    assert {name: float(value) for name, value in terms.items() if name != "loss"} == {
        "codewords": 0,
        "labels": 0,
        "classes": 0,
    }


VARIANTS = [
    {},
    {"activation": None},
    {"constant_width": True},
    {"batch_norm": True},
    {"longer": "joint"},
    {"longer": "joint", "activation": None, "batch_norm": True},
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
    scores = head.classes.scores(x)
    scores = torch.zeros(len(x), 4) if scores is None else scores
    outputs = naive.head_outputs(
        u.tolist(),
        [(layer.groups.tolist(), layer.weights.tolist()) for layer in layers],
        scores.tolist(),
        head.classes.codewords(layers[-1].target_bits).tolist() if layers else [],
        head.readout,
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
            h = head.merges.unlift(h, stage) if head.constant_width else h
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
    assert head.outputs(x).class_scores is None
    base, h = losses.SupConLoss(), head(x)
    expected = base(h, LABELS) + 3 * residual_of(head, h, LABELS)
    torch.testing.assert_close(NMLoss(base, head)(h, LABELS), expected)


def test_outputs_of_several_passes_each_know_their_scores():
    head = merged_head()
    x, y = torch.randn(2, 32, 6)
    of_x, of_y = head(x), head(y)
    for _ in range(2):  # as often as they are asked
        for items, outputs in ((y, of_y), (x, of_x)):
            expected = class_nll(head.classes.classifier(items), LABELS)
            assert nll_of(head, outputs, LABELS) == expected


def test_outputs_that_were_chosen_or_put_together():
    head = merged_head()
    loss = NMLoss(losses.SupConLoss(), head)
    x, y, z = torch.randn(32, 6), torch.randn(32, 6), torch.randn(12, 6)

    def expected(items, labels):
        return class_nll(head.classes.classifier(items), labels)

    h = head(x)
    order = torch.randperm(32)
    for rows in (slice(16), slice(None, None, 2), order, LABELS == 2):
        found = loss.terms(h[rows], LABELS[rows])["classes"]
        torch.testing.assert_close(found, expected(x[rows], LABELS[rows]))
    labels = torch.cat([LABELS, LABELS[:12]])
    for parts in ([y, z], [z, y]):
        head(x)  # one pass too many is no matter
        found = loss.terms(torch.cat([head(part) for part in parts]), labels)["classes"]
        torch.testing.assert_close(found, expected(torch.cat(parts), labels))
    head(y)
    found = loss.terms(h, LABELS)["classes"]  # not those of the latest pass
    torch.testing.assert_close(found, expected(x, LABELS))


def test_the_classifier_and_the_trunk_learn_from_the_classes():
    head, x = merged_head(), torch.randn(32, 6, requires_grad=True)
    classifier = head.classes.classifier
    NMLoss(losses.SupConLoss(), head).terms(head(x), LABELS)["classes"].backward()
    found = [x.grad, classifier.weight.grad, classifier.bias.grad]
    neurons = head.linear.weight.grad
    assert neurons is None or not neurons.any()
    scores = F.linear(x, classifier.weight, classifier.bias)
    wanted = (x, classifier.weight, classifier.bias)
    expected = torch.autograd.grad(F.cross_entropy(scores, LABELS), wanted)
    torch.testing.assert_close(found, list(expected))
    head.zero_grad()
    head(x).sum().backward()  # and from the code
    assert classifier.weight.grad.any()


def test_multi_hot_labels_and_items_without_classes():
    head, x = merged_head(), torch.randn(32, 6)
    rows, loss = F.one_hot(LABELS, 4), NMLoss(DPSHLoss(), head)
    found, expected = (loss.terms(head(x), each)["classes"] for each in (rows, LABELS))
    torch.testing.assert_close(found, expected)
    rows[:, 1] = 1
    rows[:8] = 0
    value = loss(head(x), rows)
    expected = naive.class_nll(head.classes.classifier(x).tolist(), rows.tolist())
    found = loss.terms(head(x), rows)["classes"]
    torch.testing.assert_close(found.item(), expected)
    untaught = NMLoss(DPSHLoss(), head, class_terms=ClassTerms(class_weight=0))
    without = untaught(head(x), rows)
    torch.testing.assert_close(value.item(), without.item() + expected)
    assert loss.terms(head(x), torch.zeros_like(rows))["classes"] == 0


@pytest.mark.parametrize("classes", [4, 6, 7])
@pytest.mark.parametrize("kind", ["ids", "rows"])
@pytest.mark.parametrize("constant_width", [False, True])
@pytest.mark.parametrize(
    "given", [(None, None), (2.0, None), (None, 0.5), (2.0, 0.5), (0, 0)], ids=str
)
def test_what_is_added_depends_on_the_classes_unless_given(
    classes, kind, constant_width, given
):
    head = merged_head(num_classes=classes, constant_width=constant_width)
    x = torch.randn(32, 6)
    labels, defaults = LABELS, (1 / 7 if classes == 7 else 0, 3)  # 6 bits
    if kind == "rows":
        labels = F.one_hot(LABELS, classes) | F.one_hot(LABELS // 2, classes)
    elif constant_width:
        defaults = (10, 3)
    pull, read = (
        default if weight is None else weight
        for weight, default in zip(given, defaults, strict=True)
    )
    terms = ClassTerms(codeword_weight=given[0], class_weight=0, label_weight=given[1])
    loss = NMLoss(DPSHLoss(), head, class_terms=terms)
    assert loss.class_terms(labels).codeword_weight == pytest.approx(pull)
    assert loss.class_terms(labels).label_weight == read
    h = head(x)
    expected = DPSHLoss()(h, labels) + pull * pull_of(head, h, labels)
    expected = expected + read * residual_of(head, h, labels)
    torch.testing.assert_close(loss(h, labels), expected)


@pytest.mark.parametrize("activation", ["tanh", None])
@pytest.mark.parametrize("constant_width", [False, True])
def test_labels_are_read_from_the_bits_of_every_stage(activation, constant_width):
    torch.manual_seed(0)
    options = {"activation": activation, "constant_width": constant_width}
    head = ProgressiveHead(6, (12, 6), num_classes=4, **options)
    loss = NMLoss(DPSHLoss(), head, class_terms=ClassTerms(label_weight=2)).eval()
    x, rows = torch.randn(32, 6), F.one_hot(LABELS, 4) | F.one_hot(LABELS // 2, 4)
    for _ in range(2):
        expected = naive.label_residual(head.codes(x).tolist(), rows.tolist(), 0.3)
        h = head(x)
        value = loss.terms(h, rows)["labels"]
        torch.testing.assert_close(value.item(), 2 * expected, rtol=1e-4, atol=1e-5)
        (slope,) = torch.autograd.grad(value, head.linear.weight)
        assert slope.any()
        if not head.finished:
            head.observe(h, rows)
            head.merge_next()
    # a linear output that is sure of its bit is left in peace
    sure = 50 * torch.ones(32, 6)
    sure = (head.layers[0].lift(sure) if constant_width else sure).requires_grad_()
    (slope,) = torch.autograd.grad(loss.terms(sure, rows)["labels"], sure)
    assert slope.any() == (activation == "tanh")


def test_all_lengths_of_a_joint_head_can_be_read():
    torch.manual_seed(0)
    head = ProgressiveHead(6, bits=(12, 6), num_classes=4, longer="joint", readout=0)
    x, rows = torch.randn(32, 6), F.one_hot(LABELS, 4) | F.one_hot(LABELS // 2, 4)
    head.observe(head(x), rows)
    head.merge_next()
    h, _, (longer,) = head.outputs(x)
    expected = [
        DPSHLoss()(out, rows) + 3 * residual_of(head, out, rows, bits)
        for out, bits in ((longer, 12), (h, 6))
    ]
    value = NMLoss(DPSHLoss(), head)(head(x), rows)
    torch.testing.assert_close(value, torch.stack(expected).mean())


def test_a_head_that_knows_of_no_classes_reads_no_labels():
    head, x = ProgressiveHead(6, bits=(12, 6)), torch.randn(32, 6)
    rows = F.one_hot(LABELS, 4)
    assert NMLoss(DPSHLoss(), head)(head(x), rows) == DPSHLoss()(head(x), rows)
    assert list(NMLoss(DPSHLoss(), head).terms(head(x), rows)) == ["loss"]


@pytest.mark.parametrize("constant_width", [False, True])
def test_the_scorer_finds_codewords_first_and_merges_towards_them(constant_width):
    torch.manual_seed(0)
    options = {"scorer": "codewords", "constant_width": constant_width}
    head = ProgressiveHead(6, (12, 6), num_classes=4, spare_codewords=0, **options)
    x = 2 * F.one_hot(LABELS, 6) + torch.randn(32, 6)
    head.observe(head(x), LABELS)
    layer = head.layers[0]
    codes = binarize(head(x))
    head.merge_next()
    rows = F.one_hot(LABELS, 4).float()
    expected = semantic_codebook(rows.T @ codes / 8, 6)
    assert torch.equal(head.codewords(), expected)
    targets = expected[LABELS]
    groups, weights = groups_for_targets(codes.T @ codes / 32, codes.T @ targets / 32, 2)
    assert torch.equal(layer.groups, groups)
    total = torch.zeros(6).index_add_(0, groups, weights.abs())
    torch.testing.assert_close(layer.weights, weights / total[groups], rtol=1e-4, atol=1e-5)
    # so the bits of the merged code agree with the codewords better than random ones do
    assert (codes @ layer.merge_matrix().T * targets > 0).float().mean() > 0.6


def test_outputs_carry_scores_in_training_and_nothing_stays_in_the_head():
    head, x = merged_head(), torch.randn(32, 6)
    before = set(vars(head))
    for _ in range(3):
        assert head.unpack(head(x)).class_scores is not None
    with torch.no_grad():
        assert head.unpack(head(x)).class_scores is not None
    assert head.unpack(head.eval()(x)).class_scores is None
    assert type(head(x)) is torch.Tensor
    head.codes(x)
    assert set(vars(head)) == before


def test_in_eval_mode_the_loss_takes_outputs_with_scores_or_without():
    head, x = merged_head(), torch.randn(32, 6)
    loss = NMLoss(losses.SupConLoss(), head)
    whole = loss.terms(head(x), LABELS)
    assert list(whole) == ["loss", "labels", "classes"]
    loss.eval()
    for outputs in (head(x), head.outputs(x), head.eval().outputs(x)):
        assert loss.terms(outputs, LABELS) == whole
        assert loss(outputs, LABELS) == sum(whole.values())
    h = head.eval()(x)
    terms = loss.terms(h, LABELS)
    assert list(terms) == ["loss", "labels"]
    assert loss(h, LABELS) == sum(terms.values())
    with pytest.raises(ValueError, match="carry no class scores"):
        loss.train()(h, LABELS)


def test_a_head_is_copied_right_after_a_pass():
    head, x = merged_head(), torch.randn(32, 6)
    h = head(x)
    model, loss = copy.deepcopy((head, NMLoss(losses.SupConLoss(), head)))
    assert loss.head is model
    loss(model(x), LABELS)
    assert nll_of(head, h, LABELS) == class_nll(head.classes.classifier(x), LABELS)


def test_half_precision():
    head = merged_head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = NMLoss(losses.ContrastiveLoss(), head)(head(torch.randn(32, 6)), LABELS)
    value.backward()
    assert value.isfinite()


def head_with(readout=0.6, class_weight=None):
    head = ProgressiveHead(6, bits=(12, 6), num_classes=4, readout=readout)
    NMLoss(losses.SupConLoss(), head, class_terms=ClassTerms(class_weight=class_weight))


class Nothing(nn.Module):
    """A loss that asks for nothing."""

    def forward(self, embeddings, labels, indices_tuple):
        return 0 * embeddings.sum()


def classify(labels, change=lambda outputs: outputs, label_weight=0):
    head, weights = merged_head(), ClassTerms(label_weight=label_weight)
    loss = NMLoss(Nothing(), head, class_terms=weights)
    loss(change(head(torch.randn(32, 6))), labels)


def terms_of(embeddings, labels, head=None, **weights):
    head = merged_head() if head is None else head
    weights = ClassTerms(**{"class_weight": 0, "label_weight": 0, **weights})
    return NMLoss(Nothing(), head, class_terms=weights).terms(embeddings, labels)


def before_the_merge():
    head = ProgressiveHead(6, bits=(12, 6), num_classes=4)
    h = head(torch.randn(32, 6))
    head.observe(h, LABELS)
    head.merge_next()
    NMLoss(losses.SupConLoss(), head)(h, LABELS)


def without_classes(**weights):
    head = ProgressiveHead(6, bits=(12, 6))
    NMLoss(losses.SupConLoss(), head, class_terms=ClassTerms(**weights))


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
        (
            lambda: ProgressiveHead(6, (8, 2), num_classes=5),
            "2 bits have 4 codes, too few",
        ),
        (lambda: ProgressiveHead(6, (8, 2), num_classes=0), "num_classes >= 1"),
        (
            lambda: ProgressiveHead(6, (8, 4), scorer="random", num_classes=3).observe(
                torch.ones(2, 8)
            ),
            "codewords of 3 classes need labels",
        ),
        (
            lambda: ProgressiveHead(6, (8, 4), num_classes=3).observe(
                torch.ones(2, 8), torch.tensor([0, 3])
            ),
            r"\[0, num_classes=3\)",
        ),
        (
            lambda: terms_of(torch.zeros(32, 6), None, codeword_weight=1),
            "a head of 4 classes needs labels, got None",
        ),
        (
            lambda: terms_of(torch.zeros(32, 6), None, label_weight=1),
            "a head of 4 classes needs labels, got None",
        ),
        (lambda: terms_of(torch.zeros(32, 7), LABELS, label_weight=1), r"\(B, 6\)"),
        (lambda: terms_of(torch.zeros(32, 7), LABELS, codeword_weight=1), r"\(B, 6\)"),
        (lambda: pull_of(merged_head(), torch.zeros(32, 7), LABELS), r"\(B, 6\)"),
        (lambda: ClassTerms(codeword_weight=-1), "codeword_weight must be >= 0, got -1"),
        (lambda: ClassTerms(label_weight=-1), "label_weight must be >= 0, got -1"),
        (lambda: ClassTerms(class_weight=float("nan")), "class_weight must be >= 0"),
        (
            lambda: without_classes(codeword_weight=1),
            "codeword_weight=1 needs a head that finds codewords",
        ),
        (
            lambda: without_classes(label_weight=1),
            "label_weight=1 needs a head that knows classes",
        ),
        (
            lambda: without_classes(class_weight=1),
            "class_weight=1 needs a head with a classifier",
        ),
        (
            lambda: residual_of(merged_head(), torch.zeros(32, 6), LABELS, bits=3),
            r"shape \(B, 3\), got \(32, 6\)",
        ),
        (lambda: merged_head().codewords(12), "the longest code, .* has none"),
        (lambda: merged_head().codewords(3), "reached so far, 12, 6; got 3"),
        (
            lambda: ProgressiveHead(6, bits=(12, 6), num_classes=4).codewords(6),
            "reached so far, 12; got 6",
        ),
        (
            lambda: ProgressiveHead(6, bits=(12, 6)).codewords(),
            "a head without num_classes has no codewords",
        ),
        (
            lambda: ProgressiveHead(6, (8, 4), scorer="codewords"),
            "codewords.* needs num_classes",
        ),
        (lambda: head_with(readout=-0.1), ">= 0, .*got readout=-0.1"),
        (
            lambda: ProgressiveHead(6, bits=(12, 6), readout=0.6),
            "no use without num_classes; got readout=0.6, .*num_classes=None",
        ),
        (lambda: head_with(class_weight=-1), "class_weight must be >= 0, got -1"),
        (
            lambda: head_with(readout=0, class_weight=1),
            "class_weight=1 needs a head with a classifier: .* readout > 0",
        ),
        (lambda: classify(None), "a head of 4 classes needs labels, got None"),
        (lambda: classify(LABELS[:, None]), r"\(32, 1\) are a column"),
        (lambda: classify(LABELS + 1), r"\[0, num_classes=4\)"),
        (lambda: classify(LABELS, lambda h: 2 * h), "carry no class scores"),
        (lambda: classify(LABELS, F.normalize), "carry no class scores"),
        (
            lambda: classify(LABELS, lambda h: torch.cat([h[:16], torch.zeros(16, 6)])),
            "carry no class scores",
        ),
        (lambda: classify(LABELS, lambda h: h[:, 2:]), r"shape \(B, 6\), got \(32, 4\)"),
        (lambda: before_the_merge(), "made after 0 merges, .* has made 1 by now"),
        (
            lambda: merged_head().classes.set_codewords(torch.ones(3, 6)),
            r"shape \(4, bits\), got \(3, 6\)",
        ),
        (
            lambda: merged_head().classes.set_codewords(torch.zeros(4, 6)),
            "must be -1 and \\+1",
        ),
        (lambda: merged_head().classes.set_codewords(torch.ones(4, 5)), "not of 5"),
        (lambda: ClassReadOut(6, 17, (4,)), "4 bits have 16 codes, too few"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("items", [1, 3])
@pytest.mark.parametrize("name", ["codeword_weight", "label_weight", "class_weight"])
def test_labels_of_another_length_are_refused(name, items):
    weights = {"codeword_weight": 0, "label_weight": 0, "class_weight": 0, name: 1}
    head = merged_head()
    with pytest.raises(ValueError, match=f"32 items but {items} labels"):
        terms_of(head(torch.randn(32, 6)), LABELS[:items], head, **weights)


@pytest.mark.parametrize("readout", [0, 0.6])
@pytest.mark.parametrize("activation", ["tanh", None])
def test_a_head_without_merges_has_codewords_from_the_start(activation, readout):
    torch.manual_seed(0)
    options = {"activation": activation, "readout": readout}
    head = ProgressiveHead(6, bits=6, num_classes=4, **options)
    assert head.finished
    words = head.codewords()
    differ = (6 - words @ words.T) / 2
    assert differ[~torch.eye(4, dtype=bool)].min() >= 3
    loss = NMLoss(DPSHLoss(), head, class_terms=ClassTerms(codeword_weight=10))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    x = F.one_hot(LABELS, 6) + 0.1 * torch.randn(32, 6)
    values = []
    for _ in range(150):
        optimizer.zero_grad()
        terms = loss.terms(head(x), LABELS)
        assert set(terms) - {"classes"} == {"loss", "codewords", "labels"}
        value = sum(terms.values())
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]
    assert torch.equal(head.codewords(), words)  # training leaves them alone
    assert torch.equal(head.codes(x), words[LABELS])
    torch.testing.assert_close(head.fold()(x), head.eval()(x), rtol=0, atol=1e-5)
    other = ProgressiveHead(6, bits=(6,), num_classes=4, **options)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.eval()(x), head(x))


def test_old_names_warn_and_give_the_old_values():
    with pytest.warns(DeprecationWarning, match="lift is an old name.*constant_width"):
        head = ProgressiveHead(6, (12, 6), num_classes=4, lift=True)
    assert head.constant_width
    with pytest.warns(DeprecationWarning, match=r"head\.lift"):
        assert head.lift
    head, x = merged_head(), torch.randn(32, 6)
    h = head(x)
    for name, expected in {
        "class_nll": class_nll(head.classes.classifier(x), LABELS),
        "codeword_nll": pull_of(head, h, LABELS),
        "label_residual": residual_of(head, h, LABELS),
    }.items():
        with pytest.warns(DeprecationWarning, match=f"{name} is an old name.*NMLoss.terms"):
            assert getattr(head, name)(h, LABELS) == expected
    plain = ProgressiveHead(6, (12, 6))
    for name in ("class_nll", "codeword_nll", "label_residual"):
        with pytest.warns(DeprecationWarning, match=name):
            assert getattr(plain, name)(plain(x), LABELS) is None
    for name in ("codeword_weight", "class_weight", "label_weight"):
        with pytest.warns(DeprecationWarning, match=f"{name} of NMLoss leave.*ClassTerms"):
            old = NMLoss(DPSHLoss(), head, **{name: 2.0})
        new = NMLoss(DPSHLoss(), head, class_terms=ClassTerms(**{name: 2.0}))
        assert old.terms(h, LABELS) == new.terms(h, LABELS)
        with pytest.raises(ValueError, match=f"give {name} in class_terms.* not twice"):
            NMLoss(DPSHLoss(), head, class_terms=ClassTerms(), **{name: 2.0})


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: losses.SupConLoss(), {}),
        (lambda: HashNetLoss(), {"activation": None}),
        (lambda: CSQLoss(10, 32), {"activation": None}),
        (lambda: losses.ProxyAnchorLoss(num_classes=10, embedding_size=32), {}),
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
