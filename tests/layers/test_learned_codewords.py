"""Codewords of classes: learned by layers, pulled to by NMLoss."""

import copy

import pytest
import torch
from pytorch_metric_learning import losses
from torch import nn
from torch.nn import functional as F

from pml_nmlayer.codewords import semantic_codebook
from pml_nmlayer.layers import NMLayer, ProgressiveHead
from pml_nmlayer.losses import CSQLoss, HashNetLoss, NMLoss
from pml_nmlayer.ranking import mean_average_precision
from tests.digits import digits

LABELS = torch.arange(32) % 4


def merged_head(**options):
    torch.manual_seed(0)
    head = ProgressiveHead(6, bits=(12, 6), num_classes=4, **options)
    head.observe(head(torch.randn(32, 6)), LABELS)
    head.merge_next()
    return head


def test_a_merge_finds_codewords_near_the_means_of_the_merged_code():
    head = merged_head()
    layer = head.layers[0]
    means = layer.class_means.mean @ layer.merge_matrix().T
    assert torch.equal(layer.codewords, semantic_codebook(means, 6))
    assert len(layer.codewords.unique(dim=0)) == 4


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
    u = (head.linear(x) @ head.merge_matrix().T).double()
    targets = head.layers[0].codewords[LABELS].double()
    expected = F.binary_cross_entropy_with_logits(2 * u, (targets + 1) / 2)
    distance = head.codeword_nll(head(x), LABELS)
    torch.testing.assert_close(distance.double(), expected, rtol=1e-5, atol=1e-6)


def test_the_loss_pulls_by_its_weight():
    head = merged_head()
    h = head(torch.randn(32, 6))
    base, distance = losses.SupConLoss(), head.codeword_nll(h, LABELS)
    expected = base(h, LABELS) + 3 * distance
    torch.testing.assert_close(NMLoss(base, head, codeword_weight=3)(h, LABELS), expected)
    assert NMLoss(base, head, codeword_weight=0)(h, LABELS) == base(h, LABELS)


def test_all_lengths_of_a_joint_head_have_their_own_codewords():
    torch.manual_seed(0)
    head = ProgressiveHead(6, bits=(12, 6, 3), num_classes=4, longer="joint")
    loss = NMLoss(losses.SupConLoss(), head, codeword_weight=2)
    x = torch.randn(32, 6)
    for _ in range(2):
        loss(head(x), LABELS)
        head.merge_next()
    value, h = loss(head(x), LABELS), head(x)
    by_length = {12: head.take_longer_outputs()[0], 6: None, 3: h}
    head(x)
    by_length[6] = head.take_longer_outputs()[1]
    expected = [
        losses.SupConLoss()(out, LABELS)
        + (0 if bits == 12 else 2 * head.codeword_nll(out, LABELS, bits))
        for bits, out in by_length.items()
    ]
    torch.testing.assert_close(value, torch.stack(expected).mean())


def test_state_and_reopening():
    head = merged_head()
    other = ProgressiveHead(6, bits=(12, 6), num_classes=4)
    other.load_state_dict(copy.deepcopy(head.state_dict()))
    x = torch.randn(32, 6)
    assert torch.equal(other.layers[0].codewords, head.layers[0].codewords)
    assert torch.equal(
        other.codeword_nll(other(x), LABELS), head.codeword_nll(head(x), LABELS)
    )
    with pytest.raises(ValueError, match="num_classes: 4, here None"):
        ProgressiveHead(6, bits=(12, 6)).load_state_dict(head.state_dict())
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


def test_half_precision():
    head = merged_head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = NMLoss(losses.ContrastiveLoss(), head)(head(torch.randn(32, 6)), LABELS)
    value.backward()
    assert value.isfinite()


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
