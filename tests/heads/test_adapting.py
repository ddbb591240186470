"""Heads that learn from the items that will be searched."""

import copy

import pytest
import torch
from torch import nn

from pml_nmlayer.adaptation import fit_codes
from pml_nmlayer.codes import binarize
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.ranking import mean_average_precision
from tests.digits import digits

X = torch.randn(300, 10, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(300) % 4


def head_of(stage, **options):
    torch.manual_seed(0)
    head = ProgressiveHead(10, (12, 6), **options)
    for _ in range(stage):
        head.observe(head(X), LABELS)
        head.merge_next()
    return head


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize(
    "options",
    [{}, {"activation": None}, {"batch_norm": True}, {"num_classes": 4, "readout": 0}],
    ids=str,
)
def test_the_code_becomes_the_one_that_is_learned(stage, options):
    head = head_of(stage, **options)
    with torch.no_grad():
        weight = head.fold()
        first = weight[0] if isinstance(weight, nn.Sequential) else weight
        start = first.weight.clone(), first.bias.clone()
    learned = fit_codes(X, bits=head.bits, start=start, linear=True).module
    head.adapt(X)
    folded = head.fold()
    linear = folded[0] if isinstance(folded, nn.Sequential) else folded
    assert isinstance(linear, nn.Linear)
    torch.testing.assert_close(linear.weight, learned.weight, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(linear(X), learned(X), rtol=1e-3, atol=1e-3)
    sure = learned(X).abs() > 1e-2
    assert torch.equal(head.codes(X)[sure], binarize(learned(X))[sure])
    assert torch.equal((head.eval()(X) >= 0)[sure], (learned(X) >= 0)[sure])


def test_nothing_else_is_kept():
    head = head_of(1)
    names = {name: value.shape for name, value in head.state_dict().items()}
    longer = head.codes(X, 12)
    generator = torch.get_rng_state()
    head.adapt(X, torch.where(LABELS < 2, LABELS, -1))
    assert torch.equal(torch.get_rng_state(), generator)
    assert {name: value.shape for name, value in head.state_dict().items()} == names
    other = head_of(1)
    other.load_state_dict(head.state_dict(), strict=True)
    assert torch.equal(other.codes(X), head.codes(X))
    assert torch.equal(head.codes(X, 12), longer)  # a snapshot is what it was


def test_one_seed_gives_one_head():
    heads = [head_of(1) for _ in range(3)]
    for head, seed in zip(heads, (0, 0, 1), strict=True):
        head.adapt(X, random_state=seed)
    assert torch.equal(heads[0].linear.weight, heads[1].linear.weight)
    assert not torch.equal(heads[0].linear.weight, heads[2].linear.weight)


def test_a_class_read_out_adds_nothing_any_more():
    head = head_of(1, num_classes=4)
    before = head.fold()[0]
    head.adapt(X)
    assert head.codewords().abs().sum() == 0
    x = torch.randn(20, 10)
    folded, plain = head.fold()(x), head.merge_matrix() @ head.linear(x).T
    torch.testing.assert_close(folded, plain.T.tanh(), rtol=0, atol=1e-4)
    assert type(before) is type(head.fold()[0])  # the shapes of what is served stay


def test_unseen_classes_are_retrieved_better():
    (x, y), (queries, wanted) = (part.tensors for part in digits())
    head = ProgressiveHead(64, bits=16)
    plain = copy.deepcopy(head)
    head.adapt(x, torch.where(y < 5, y, -1))  # five classes are labelled
    unseen, searched = wanted >= 5, y >= 5
    scores = [
        mean_average_precision(
            each.codes(queries[unseen]), wanted[unseen], each.codes(x), y
        )
        for each in (plain, head)
    ]
    assert searched.any()
    assert scores[1] > scores[0] + 0.2


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[0], None, r"shape \(N, D\)"),
        (X[:, :4], None, "start must have weights"),
        (X * torch.nan, None, "NaN or inf"),
        (X, LABELS[:3], "one class id"),
    ],
)
def test_bad_input(x, y, message):
    with pytest.raises(ValueError, match=message):
        head_of(0).adapt(x, y)
