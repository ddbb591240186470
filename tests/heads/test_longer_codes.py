"""Codes of every length of the chain from one run."""

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


VARIANTS = [{}, {"activation": None}, {"batch_norm": True}, {"num_classes": 4}]


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
        (u,), _ = head.eval()._merged(X, stage, training=False)
        if head.classes is not None:
            u = head.classes.add(u, head.classes.scores(X))
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


@pytest.mark.parametrize("constant_width", [False, True])
def test_joint_loss_is_the_mean_over_the_lengths(constant_width):
    head = head_in_stage(2, longer="joint", constant_width=constant_width)
    base = losses.ContrastiveLoss()
    value = NMLoss(base, head)(head(X), LABELS)
    head.constant_width = False
    parts = [
        base(torch.tanh(head.linear(X) @ head.merge_matrix(stage).T), LABELS)
        for stage in range(3)
    ]
    torch.testing.assert_close(value, torch.stack(parts).mean())
    value.backward()
    assert head.linear.weight.grad.abs().sum(1).min() > 0


def by_length(head, x):
    """Outputs of all lengths so far, as the formula has them, without batch norm."""
    return [
        torch.tanh(head.linear(x) @ head.merge_matrix(stage).T)
        for stage in range(head.stage + 1)
    ]


def test_longer_outputs_come_with_the_rows_and_in_training_alone():
    head = head_in_stage(2, longer="joint")
    *longer, short = by_length(head, X)
    for outputs in (head.outputs(X), head.unpack(head(X)), head.unpack(head(X)[...])):
        torch.testing.assert_close(outputs.embeddings, short)
        torch.testing.assert_close(list(outputs.longer), longer)
    assert head.unpack(head(X)[:3]).longer[0].shape == (3, 24)
    assert head.eval().outputs(X).longer == ()
    assert head.unpack(head.eval()(X)).longer == ()


def test_a_loss_may_be_asked_more_than_once():
    head = head_in_stage(1, longer="joint")
    loss = NMLoss(losses.ContrastiveLoss(), head)
    embeddings = head(X)
    twin, its_loss = copy.deepcopy((head, loss))
    first, second = loss(embeddings, LABELS), loss(embeddings, LABELS)
    assert first == second == loss(head.outputs(X), LABELS)
    assert first == its_loss(twin(X), LABELS)
    assert first != losses.ContrastiveLoss()(embeddings, LABELS)


@pytest.mark.parametrize("constant_width", [False, True])
def test_outputs_of_several_passes_are_put_together(constant_width):
    head = head_in_stage(2, longer="joint", constant_width=constant_width)
    loss, other = NMLoss(losses.ContrastiveLoss(), head), X.flip(1)
    whole = loss(head(torch.cat([X, other])), LABELS.repeat(2))
    both = torch.cat([head(X), head(other)])
    torch.testing.assert_close(loss(both, LABELS.repeat(2)), whole)
    order = torch.randperm(80)
    torch.testing.assert_close(loss(both[order], LABELS.repeat(2)[order]), whole)


def test_each_length_has_its_reference_set():
    head, ref = head_in_stage(1, longer="joint"), X.flip(1)
    base = losses.ContrastiveLoss()
    value = NMLoss(base, head)(head(X), LABELS, None, head(ref), LABELS)
    pairs = zip(by_length(head, X), by_length(head, ref), strict=True)
    expected = [base(h, LABELS, None, r, LABELS) for h, r in pairs]
    torch.testing.assert_close(value, torch.stack(expected).mean())


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
        (
            lambda: head_in_stage(1).snapshots(X),
            NotImplementedError,
            "holds codes; ask the head",
        ),
        (
            lambda: NMLoss(
                HashCrossBatchMemory(losses.ContrastiveLoss(), 24, memory_size=64),
                head_in_stage(0, longer="joint"),
            ),
            ValueError,
            "codes of all lengths",
        ),
        (lambda: before_and_after(), ValueError, "made after 1 merges, .* made 2 by now"),
        (
            lambda: one_side_only(),
            ValueError,
            "embeddings carry 1 longer codes, ref_emb 0",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def before_and_after():
    head = head_in_stage(1, longer="joint")
    h = head(X)
    head.observe(h, LABELS)
    head.merge_next()
    NMLoss(losses.ContrastiveLoss(), head)(h, LABELS)


def one_side_only():
    head = head_in_stage(1, longer="joint")
    loss = NMLoss(losses.ContrastiveLoss(), head)
    loss(head(X), LABELS, None, head.eval()(X), LABELS)
