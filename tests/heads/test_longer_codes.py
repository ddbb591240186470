"""Codes of every length of the chain from one run, and stages that are opened again."""

import copy

import pytest
import torch
from pytorch_metric_learning import losses

from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import HashCrossBatchMemory, NMLoss

LABELS = torch.arange(40) % 4
X = torch.randn(40, 10, generator=torch.Generator().manual_seed(1))


def head_in_stage(stage, **kwargs):
    torch.manual_seed(0)
    head = ProgressiveHead(10, (24, 12, 6), **kwargs)
    for _ in range(stage):
        head.observe(head(X), LABELS)
        head.merge_next()
        with torch.no_grad():  # the head trains on and moves away
            head.linear.weight.add_(torch.randn_like(head.linear.weight))
    return head


VARIANTS = [{}, {"merge": "tanh"}, {"activation": None}, {"batch_norm": True}]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_snapshot_is_the_head_right_before_its_merge(variant):
    head = ProgressiveHead(10, (24, 12, 6), **variant)
    expected = {}
    for _ in range(2):
        head.observe(head(X), LABELS)
        expected[head.bits] = head.codes(X), copy.deepcopy(head).eval()(X)
        head.merge_next()
        with torch.no_grad():
            head.linear.weight.add_(torch.randn_like(head.linear.weight))
    for bits, (codes, outputs) in expected.items():
        assert head.codes(X, bits=bits).shape == (40, bits)
        torch.testing.assert_close(head.fold(bits=bits)(X), outputs, rtol=0, atol=1e-5)
        decided = outputs.abs() > 1e-5
        assert torch.equal(head.codes(X, bits=bits)[decided], codes[decided])
    assert torch.equal(head.codes(X, bits=6), head.codes(X))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_joint_codes_are_nested(variant):
    head = head_in_stage(2, longer="joint", **variant)
    head(X)
    for stage, bits in enumerate((24, 12, 6)):
        u = head.eval()._neurons(X, training=False) @ head.merge_matrix(stage).T
        decided = u.abs() > 1e-5
        assert torch.equal(head.codes(X, bits)[decided], torch.sign(u)[decided])
        folded = head.fold(bits)(X)
        assert torch.equal((folded >= 0)[decided], (u >= 0)[decided])


def test_snapshots_come_with_the_state():
    head, other = head_in_stage(2), head_in_stage(0)
    other.load_state_dict(head.state_dict())
    for bits in (24, 12, 6):
        assert torch.equal(other.codes(X, bits), head.codes(X, bits))


def test_snapshots_are_no_parameters():
    names = [name for name, _ in head_in_stage(1).named_parameters()]
    assert names == ["linear.weight", "linear.bias"]
    assert not ProgressiveHead(10, (24, 12), longer="drop").snapshots


@pytest.mark.parametrize("lift", [False, True])
def test_joint_loss_is_the_mean_over_the_lengths(lift):
    head = head_in_stage(2, longer="joint", lift=lift)
    base = losses.ContrastiveLoss()
    value = NMLoss(base, head)(head(X), LABELS)
    head.lift = False
    parts = [
        base(torch.tanh(head.linear(X) @ head.merge_matrix(stage).T), LABELS)
        for stage in range(3)
    ]
    torch.testing.assert_close(value, torch.stack(parts).mean())
    value.backward()
    assert head.linear.weight.grad.abs().sum(1).min() > 0


def test_joint_outputs_are_taken_once_and_by_training_alone():
    head = head_in_stage(1, longer="joint")
    loss = NMLoss(losses.ContrastiveLoss(), head)
    embeddings = head(X)
    assert copy.deepcopy(head).take_longer_outputs() == []
    first, second = loss(embeddings, LABELS), loss(embeddings, LABELS)
    assert not torch.equal(first, second)
    torch.testing.assert_close(second, losses.ContrastiveLoss()(embeddings, LABELS))
    head.eval()(X)
    assert head.take_longer_outputs() == []


def test_a_head_opens_and_merges_again():
    head = head_in_stage(2)
    parameters = [id(p) for p in head.parameters()]
    head.reopen()
    assert (head.bits, head.stage, head.changes, head.finished) == (12, 1, 3, False)
    assert head.layers[1].phase == "active"
    assert head.layers[1].graph.items == 0
    head.reopen()
    assert (head.bits, head.stage, head.changes) == (24, 0, 4)
    assert head.layers[1].graph.items == 0
    for bits in (12, 6):
        head.observe(head(X), LABELS)
        head.merge_next()
        assert head.bits == bits
    assert [id(p) for p in head.parameters()] == parameters


def test_reopening_forgets_what_the_next_layer_saw():
    head = head_in_stage(1)
    head.observe(head(X), LABELS)
    assert head.layers[1].graph.items == 40
    head.reopen()
    assert head.layers[1].graph.items == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ProgressiveHead(10, (8, 4), longer="all"), ValueError, "longer must be"),
        (
            lambda: head_in_stage(1).codes(X, bits=6),
            ValueError,
            "has codes of 24, 12 bits, not of 6",
        ),
        (
            lambda: head_in_stage(1, longer="drop").codes(X, bits=24),
            ValueError,
            "codes of 12 bits, not of 24: .*longer='drop'",
        ),
        (lambda: head_in_stage(1).fold(bits=7), ValueError, "not of 7"),
        (lambda: head_in_stage(0).reopen(), RuntimeError, "nothing is merged yet"),
        (
            lambda: NMLoss(
                HashCrossBatchMemory(losses.ContrastiveLoss(), 24, memory_size=64),
                head_in_stage(0, longer="joint"),
            ),
            ValueError,
            "codes of all lengths",
        ),
        (
            lambda: two_passes(),
            ValueError,
            "that had 40 items, the loss got 80 and no reference items",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def two_passes():
    head = head_in_stage(1, longer="joint")
    both = torch.cat([head(X), head(X)])
    NMLoss(losses.ContrastiveLoss(), head)(both, LABELS.repeat(2))
