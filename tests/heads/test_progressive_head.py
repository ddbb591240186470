import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.merging.scorers import SCORERS
from tests.hamming.test_hamming import random_labels


def observe(head, items=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(items, head.linear.in_features, generator=generator)
    head.observe(head(x), random_labels(items, "class ids", seed))


def head_in_stage(stage, bits=(24, 12, 6), seed=0, **kwargs):
    torch.manual_seed(seed)
    if kwargs.get("scorer") == "codewords" and len(bits) > 1:
        kwargs["num_classes"] = 2
    head = ProgressiveHead(10, bits, **kwargs)
    for i in range(stage):
        observe(head, seed=i)
        head.merge_next()
    return head


VARIANTS = [
    {},
    {"activation": None},
    {"batch_norm": True},
    {"batch_norm": True, "activation": None},
    {"constant_width": True},
    {"num_classes": 2},
    {"scorer": "correlation", "max_group": 5},
]


def test_stages_from_long_to_short():
    head = head_in_stage(0)
    x = torch.randn(3, 10)
    for stage, bits in enumerate((24, 12, 6)):
        assert (head.stage, head.bits, head.finished) == (stage, bits, stage == 2)
        assert head(x).shape == head.codes(x).shape == (3, bits)
        if not head.finished:
            observe(head)
            head.merge_next()


def test_linear_merging_by_hand():
    head = head_in_stage(2)
    x = torch.randn(5, 10)
    u = head.linear(x)
    for layer in head.layers:
        u = layer(u)
    torch.testing.assert_close(head(x), torch.tanh(u))
    torch.testing.assert_close(head(x), torch.tanh(head.linear(x) @ head.merge_matrix().T))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_fold_equals_the_head_in_eval_mode(variant, stage):
    head = head_in_stage(stage, **variant)
    head(torch.randn(50, 10))  # batch norm sees a batch
    head.eval()
    folded = head.fold()
    x = torch.randn(64, 10)
    torch.testing.assert_close(folded(x), head(x), rtol=0, atol=1e-5)
    assert not any(
        isinstance(m, (ProgressiveHead, nn.BatchNorm1d)) for m in folded.modules()
    )
    decided = head(x).abs() > 1e-5
    assert torch.equal((folded(x) >= 0)[decided], (head.codes(x) > 0)[decided])


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True),
    st.sampled_from(sorted(SCORERS)),
    st.integers(0, 99),
)
def test_fold_equals_any_chain(lengths, scorer, seed):
    bits = tuple(sorted(lengths, reverse=True))
    head = head_in_stage(len(bits) - 1, bits, seed, scorer=scorer).eval()
    x = torch.randn(8, 10)
    torch.testing.assert_close(head.fold()(x), head(x), rtol=0, atol=1e-5)


def test_linear_fold_is_one_linear_map():
    folded = head_in_stage(2, activation=None).fold()
    assert isinstance(folded, nn.Linear)
    assert folded.weight.shape == (6, 10)


def test_folding_leaves_the_head_alone():
    head = head_in_stage(1)
    folded = head.fold()
    x = torch.randn(4, 10)
    before = folded(x)
    observe(head)
    head.merge_next()
    with torch.no_grad():
        head.linear.weight.zero_()
    assert torch.equal(folded(x), before)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_state_dict_round_trip_in_each_stage(variant):
    for stage in (0, 1, 2):
        head = head_in_stage(stage, **variant)
        observe(head, seed=7)
        for other_stage in (0, 1, 2):
            other = head_in_stage(other_stage, seed=5, **variant)
            other.load_state_dict(head.state_dict(), strict=True)
            assert (other.stage, other.bits) == (head.stage, head.bits)
            x = torch.randn(4, 10)
            assert torch.equal(
                copy.deepcopy(other).eval()(x), copy.deepcopy(head).eval()(x)
            )


def test_parameters_survive_a_merge():
    head = head_in_stage(0)
    before = [(p, p.shape) for p in head.parameters()]
    observe(head)
    head.merge_next()
    after = [(p, p.shape) for p in head.parameters()]
    assert [(id(p), s) for p, s in before] == [(id(p), s) for p, s in after]


@pytest.mark.parametrize("scorer", sorted(set(SCORERS) - {"prune", "codewords"}))
def test_gradients_reach_every_neuron(scorer):
    head = head_in_stage(2, scorer=scorer)
    head(torch.randn(16, 10)).square().sum().backward()
    assert (head.linear.weight.grad.abs().sum(1) > 0).all()


def test_constant_width_is_kept_in_training_only():
    plain, lifted = head_in_stage(2), head_in_stage(2, constant_width=True)
    x = torch.randn(5, 10)
    code, wide = plain(x), lifted(x)
    assert wide.shape == (5, 24)
    torch.testing.assert_close(wide @ wide.T, code @ code.T)
    assert torch.equal(lifted.eval()(x), plain.eval()(x))
    assert torch.equal(lifted.codes(x), plain.codes(x))


def test_outputs_of_constant_width_are_observed_as_the_code():
    plain, lifted = head_in_stage(1), head_in_stage(1, constant_width=True)
    x, y = torch.randn(30, 10), random_labels(30, "class ids")
    plain.observe(plain(x), y)
    lifted.observe(lifted(x), y)
    for a, b in zip(plain.buffers(), lifted.buffers(), strict=True):
        assert torch.equal(a, b)


def test_codes_do_not_depend_on_the_mode():
    head = head_in_stage(1, batch_norm=True)
    head(torch.randn(50, 10))
    x = torch.randn(9, 10)
    assert torch.equal(head.train().codes(x), head.eval().codes(x))
    assert not head.codes(x).requires_grad


def test_a_single_length_needs_no_merging():
    head = ProgressiveHead(10, bits=(13,))
    assert head.finished
    head.observe(head(torch.randn(4, 10)), torch.zeros(4))  # nothing left to learn
    assert head.codes(torch.randn(4, 10)).shape == (4, 13)


def test_the_same_seed_gives_the_same_codes():
    x = torch.randn(20, 10)
    assert torch.equal(head_in_stage(2).codes(x), head_in_stage(2).codes(x))


# Dynamo itself instantiates autograd functions, which torch warns about.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("stage", [0, 1])
def test_compiles_without_graph_breaks(stage):
    head = head_in_stage(stage)
    compiled = torch.compile(head, fullgraph=True, backend="eager")
    x = torch.randn(4, 10)
    torch.testing.assert_close(compiled(x), head(x))
    compiled(x).square().sum().backward()
    compiled_grad, head.linear.weight.grad = head.linear.weight.grad, None
    head(x).square().sum().backward()
    torch.testing.assert_close(compiled_grad, head.linear.weight.grad)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ProgressiveHead(10, ()), ValueError, "strictly falling"),
        (lambda: ProgressiveHead(10, (8, 8)), ValueError, "strictly falling"),
        (lambda: ProgressiveHead(10, (8, 16)), ValueError, "strictly falling"),
        (lambda: ProgressiveHead(10, (8, 0)), ValueError, "strictly falling"),
        (lambda: ProgressiveHead(10, activation="relu"), ValueError, "activation must be"),
        (lambda: ProgressiveHead(10, (8, 4), "tanh"), TypeError, "positional"),
        (lambda: ProgressiveHead(10, merge="tanh"), TypeError, "argument 'merge'"),
        (lambda: ProgressiveHead(10, gradient="full"), TypeError, "argument 'gradient'"),
        (lambda: ProgressiveHead(10, (9, 3), max_group=2), ValueError, "at least 3"),
        (lambda: head_in_stage(2).merge_next(), RuntimeError, "are done already"),
        (lambda: head_in_stage(0).merge_next(), RuntimeError, "no usable batch"),
        (
            lambda: head_in_stage(0).observe(torch.randn(4, 9), torch.zeros(4)),
            ValueError,
            r"shape \(B, 24\)",
        ),
        (
            lambda: head_in_stage(0).codes(torch.full((2, 10), torch.nan)),
            ValueError,
            "NaN",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
