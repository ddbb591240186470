"""Heads that learn from the items that will be searched."""

import copy
import io
from functools import partial

import pytest
import torch
from torch import nn

import pml_nmlayer.adaptation
from pml_nmlayer.adaptation import fit_codes
from pml_nmlayer.codes import binarize
from pml_nmlayer.heads.unfinished import UnfinishedHeadWarning
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.ranking import mean_average_precision
from tests.digits import digits
from tests.processes import process_group, run_group

X = torch.randn(300, 10, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(300) % 4


def head_of(stage, **options):
    torch.manual_seed(0)
    head = ProgressiveHead(10, (12, 6), **options)
    for _ in range(stage):
        head.observe(head(X), LABELS)
        head.merge_next()
    return head


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(pml_nmlayer.adaptation, "fit_codes", partial(fit_codes, steps=5))


@pytest.mark.usefixtures("few_steps")
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
    learned = fit_codes(X, bits=head.bits, start=start, linear=True, steps=5).module
    assert not torch.allclose(learned.weight, start[0], rtol=1e-2, atol=1e-2)
    head.adapt(X)
    folded = head.fold()
    linear = folded[0] if isinstance(folded, nn.Sequential) else folded
    assert isinstance(linear, nn.Linear)
    torch.testing.assert_close(linear.weight, learned.weight, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(linear(X), learned(X), rtol=1e-3, atol=1e-3)
    sure = learned(X).abs() > 1e-2
    assert torch.equal(head.codes(X)[sure], binarize(learned(X))[sure])
    assert torch.equal((head.eval()(X) >= 0)[sure], (learned(X) >= 0)[sure])


@pytest.mark.usefixtures("few_steps")
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


@pytest.mark.usefixtures("few_steps")
def test_one_seed_gives_one_head():
    heads = [head_of(1) for _ in range(3)]
    for head, seed in zip(heads, (0, 0, 1), strict=True):
        head.adapt(X, random_state=seed)
    assert torch.equal(heads[0].linear.weight, heads[1].linear.weight)
    assert not torch.equal(heads[0].linear.weight, heads[2].linear.weight)


@pytest.mark.usefixtures("few_steps")
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


def lengths_of(**options):
    """A head with codes of three lengths."""
    torch.manual_seed(0)
    head = ProgressiveHead(10, (24, 12, 6), **options)
    for _ in range(2):
        head.observe(head(X), LABELS)
        head.merge_next()
    return head


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("bits", [24, 12, 6])
@pytest.mark.parametrize("options", [{}, {"num_classes": 4}, {"batch_norm": True}], ids=str)
def test_each_length_is_adapted_by_itself(bits, options):
    head, lengths = lengths_of(**options), (24, 12, 6)
    before = {each: head.codes(X, each) for each in lengths}
    folded = head.fold(bits)[0]
    linear = getattr(folded, "neurons", folded)
    start = linear.weight.detach().clone(), linear.bias.detach().clone()
    learned = fit_codes(X, bits=bits, start=start, linear=True, steps=5).module(X)
    head.adapt(X, bits=bits)
    sure = learned.abs() > 1e-2
    assert torch.equal(head.codes(X, bits)[sure], binarize(learned)[sure])
    assert torch.equal(binarize(head.fold(bits)(X))[sure], binarize(learned)[sure])
    for each in lengths:
        assert torch.equal(head.codes(X, each), before[each]) == (each != bits)
    other = lengths_of(**options)
    other.load_state_dict(head.state_dict(), strict=True)
    for each in lengths:
        assert torch.equal(other.codes(X, each), head.codes(X, each))


@pytest.mark.parametrize(
    ("longer", "bits", "message"),
    [
        ("joint", 12, "adapt without bits, or make the head with longer='snapshot'"),
        ("drop", 12, "codes of 6 bits, not of 12"),
        ("snapshot", 8, "codes of 24, 12, 6 bits, not of 8"),
    ],
)
def test_lengths_that_cannot_be_adapted_are_refused(longer, bits, message):
    head = lengths_of(longer=longer)
    before = copy.deepcopy(head.state_dict())
    with pytest.raises(ValueError, match=message):
        head.adapt(X, bits=bits)
    torch.testing.assert_close(head.state_dict(), before, rtol=0, atol=0)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("longer", ["joint", "drop"])
def test_the_present_length_is_adapted_whatever_becomes_of_longer_ones(longer):
    head, other = lengths_of(longer=longer), lengths_of(longer=longer)
    head.adapt(X)
    assert not torch.equal(head.codes(X), other.codes(X))
    assert torch.equal(head.codes(X), binarize(head.eval()(X)))


@pytest.mark.usefixtures("few_steps")
@pytest.mark.filterwarnings("default:a head of:UserWarning")
def test_merges_that_are_left_are_spoken_of():
    with pytest.warns(UnfinishedHeadWarning, match="12 bits is adapted"):
        head_of(0).adapt(X)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("stage", [0, 1])
def test_a_training_goes_on_after_its_state_was_saved(stage):
    """Adapt, save, load into a new head: both train on alike, through the next merge."""
    heads = [head_of(stage), head_of(0)]
    heads[0].adapt(X)
    buffer = io.BytesIO()
    torch.save(heads[0].state_dict(), buffer)
    buffer.seek(0)
    heads[1].load_state_dict(torch.load(buffer))
    for head in heads:
        optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            outputs = head(X)
            head.observe(outputs, LABELS)
            outputs.square().mean().backward()
            optimizer.step()
        if not head.finished:
            head.merge_next()
    torch.testing.assert_close(heads[0].state_dict(), heads[1].state_dict())
    assert torch.equal(heads[0].codes(X), heads[1].codes(X))


def work(rank, world, folder):
    head = head_of(1)  # in a group its graph would count the items of both
    with process_group(rank, world, folder):
        head.adapt(X + rank)  # process 0 decides
        torch.save(head.state_dict(), f"{folder}/{rank}")
        kind = ValueError if rank == 0 else RuntimeError
        with pytest.raises(kind, match="NaN or inf"):
            head.adapt(X / 0 if rank == 0 else X)


def test_processes_take_over_what_the_first_one_learns(tmp_path):
    run_group(work, 2, 2, str(tmp_path))
    states = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    alone = head_of(1)
    alone.adapt(X)
    torch.testing.assert_close(states[0], alone.state_dict(), rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("items", ["cpu", "cuda"])
@pytest.mark.parametrize("bits", [12, 6])
def test_a_head_on_a_device_becomes_what_it_becomes_on_the_cpu(items, bits):
    there, here = head_of(1).cuda(), head_of(1)
    here.adapt(X, LABELS, bits=bits)
    there.adapt(X.to(items), LABELS.to(items), bits=bits)
    assert there.linear.weight.is_cuda
    sure = here.fold(bits)(X).abs() > 1e-2
    assert torch.equal(there.codes(X.cuda(), bits).cpu()[sure], here.codes(X, bits)[sure])


def test_neurons_that_batch_norm_switched_off_are_pointed_out():
    head = ProgressiveHead(16, bits=8, batch_norm=True)
    with torch.no_grad():
        head.norm.weight[2] = 0
    before = head.linear.weight.clone()
    with pytest.raises(ValueError, match="weights of 0"):
        head.adapt(torch.randn(50, 16))
    assert torch.equal(head.linear.weight, before)
