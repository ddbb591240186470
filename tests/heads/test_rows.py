"""What belongs to a row travels with the row: no state from call to call."""

import gc
import weakref

import pytest
import torch
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.utils import distributed as pml_distributed
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from pml_nmlayer.codes import binarize
from pml_nmlayer.heads.outputs import CarriedOutputs, HeadOutputs, unpack
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import DPSHLoss, NMLoss
from tests.processes import process_group, run_group

X = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 4
HALVES = slice(0, 6), slice(6, 12)
KINDS = [
    {},
    {"longer": "joint"},
    {"constant_width": True},
    {"longer": "joint", "constant_width": True},
    {"longer": "joint", "num_classes": None},
    {"bits": 4},
]


def model_of(options, merged=True):
    """A trunk and a head that is about to make, or has made, its first merge."""
    torch.manual_seed(0)
    options = {"bits": (8, 4), "num_classes": 4} | options
    trunk = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    model = nn.Sequential(trunk, ProgressiveHead(6, **options))
    if merged and not model[1].finished:
        model[1].observe(model(torch.randn(32, 6)), torch.arange(32) % 4)
        model[1].merge_next()
    return model


def expected_of(model, x, labels):
    """The terms of one plain pass, computed from what `outputs` says, and gradients."""
    trunk, head = model
    loss = NMLoss(DPSHLoss(), head)
    value = loss(head.outputs(trunk(x)), labels)
    return value, torch.autograd.grad(value, list(model.parameters()))


def equal(model, value, expected):
    """Compare a value and its gradients with the expected ones."""
    value, (wanted, slopes) = value.sum(), expected
    torch.testing.assert_close(value, wanted)
    found = torch.autograd.grad(value, list(model.parameters()))
    torch.testing.assert_close(found, slopes, rtol=1e-4, atol=1e-6)


PERM = torch.randperm(12, generator=torch.Generator().manual_seed(1))
MOVES = {
    "permuted": lambda h: (h[PERM], PERM),
    "a mask": lambda h: (h[Y > 0], (Y > 0).nonzero()[:, 0]),
    "sliced": lambda h: (h[3:9], torch.arange(3, 9)),
    "index_select": lambda h: (h.index_select(0, PERM[:7]), PERM[:7]),
    "put together in another order": lambda h: (
        torch.cat([h[HALVES[1]], h[HALVES[0]]]),
        torch.cat([torch.arange(6, 12), torch.arange(6)]),
    ),
    "interleaved": lambda h: (
        torch.stack([h[HALVES[0]], h[HALVES[1]]], 1).flatten(0, 1),
        torch.stack([torch.arange(6), torch.arange(6, 12)], 1).flatten(),
    ),
    "rows one by one": lambda h: (torch.stack([h[i] for i in (5, 1, 7)]), [5, 1, 7]),
    "split": lambda h: (torch.cat(h.split(5)[::-1]), [10, 11, *range(5, 10), *range(5)]),
    "chunks": lambda h: (
        torch.cat(torch.chunk(h, 3)[::-1]),
        [*range(8, 12), *range(4, 8), *range(4)],
    ),
    "repeated": lambda h: (
        h.repeat_interleave(2, 0),
        torch.arange(12).repeat_interleave(2),
    ),
    "clone, to, contiguous": lambda h: (
        h.clone().to("cpu").contiguous().float(),
        torch.arange(12),
    ),
}


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("merged", [False, True])
def test_rows_that_were_moved(options, move, merged):
    model = model_of(options, merged)
    loss = NMLoss(DPSHLoss(), model[1])
    moved, rows = MOVES[move](model(X))
    rows = torch.as_tensor(rows)
    trunk, head = model
    whole = head.outputs(trunk(X))
    part = HeadOutputs(
        whole.embeddings[rows],
        None if whole.class_scores is None else whole.class_scores[rows],
        tuple(longer[rows] for longer in whole.longer),
    )
    value = loss(part, Y[rows])
    slopes = torch.autograd.grad(value, list(model.parameters()))
    equal(model, loss(moved, Y[rows]), (value, slopes))


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_an_earlier_pass_after_a_later_one(options):
    model = model_of(options)
    loss = NMLoss(DPSHLoss(), model[1])
    a, b = model(X[HALVES[0]]), model(X[HALVES[1]])
    model(torch.randn(6, 6))
    with torch.no_grad():
        model(torch.randn(6, 6))
    for h, half in ((a, HALVES[0]), (b, HALVES[1]), (a, HALVES[0])):
        equal_once = loss(h, Y[half])
        wanted = expected_of(model, X[half], Y[half])[0]
        torch.testing.assert_close(equal_once, wanted)


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("chunks", [3, 6])
def test_chunks_and_one_loss(options, chunks):
    model = model_of(options)
    h = torch.cat([model(x) for x in X.chunk(chunks)])
    equal(model, NMLoss(DPSHLoss(), model[1])(h, Y), expected_of(model, X, Y))


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_cached_gradients(options):
    """As GradCache does: embeddings without graph, one loss, then chunk by chunk."""
    model = model_of(options)
    value, slopes = expected_of(model, X, Y)
    with torch.no_grad():
        leaf = torch.cat([model(x) for x in X.chunk(6)])
    leaf = leaf.detach().requires_grad_()
    loss = NMLoss(DPSHLoss(), model[1])(leaf, Y)
    loss.backward()
    torch.testing.assert_close(loss, value)
    for x, grad in zip(X.chunk(6), leaf.grad.chunk(6), strict=True):
        model(x).backward(grad)
    found = [p.grad for p in model.parameters()]
    torch.testing.assert_close(found, list(slopes), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_accumulated_gradients_and_a_loss_a_view(options):
    model = model_of(options)
    loss = NMLoss(DPSHLoss(), model[1])
    views = [model(X[half]) for half in HALVES]
    together = sum(loss(h, Y[half]) for h, half in zip(views, HALVES, strict=True))
    values, slopes = zip(
        *(expected_of(model, X[half], Y[half]) for half in HALVES), strict=True
    )
    summed = [sum(each) for each in zip(*slopes, strict=True)]
    equal(model, together, (sum(values), summed))
    for half in HALVES:
        loss(model(X[half]), Y[half]).backward()
    torch.testing.assert_close(
        [p.grad for p in model.parameters()], summed, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_two_losses_on_one_head(options):
    model = model_of(options)
    pair = [NMLoss(DPSHLoss(), model[1]), NMLoss(DPSHLoss(), model[1])]
    h = model(X)
    value, slopes = expected_of(model, X, Y)
    equal(model, pair[0](h, Y) + pair[1](h, Y), (2 * value, [2 * each for each in slopes]))


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_checkpointing(options):
    model = model_of(options)
    loss = NMLoss(DPSHLoss(), model[1])
    h = checkpoint(model, X, use_reentrant=False)
    equal(model, loss(h, Y), expected_of(model, X, Y))
    if isinstance(h, CarriedOutputs):
        h = checkpoint(model, X.clone().requires_grad_(), use_reentrant=True)
        with pytest.raises(ValueError, match="use_reentrant=False"):
            loss(h, Y)


# "aot_eager" traces all that "eager" does, and gradients too
@pytest.mark.parametrize(
    ("backend", "options"),
    [("eager", KINDS[0]), *(("aot_eager", options) for options in KINDS)],
    ids=str,
)
def test_compiled(options, backend):
    model = model_of(options)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    loss = NMLoss(DPSHLoss(), model[1])
    equal(model, loss(compiled(X), Y), expected_of(model, X, Y))
    equal(model, loss(compiled(X)[PERM], Y[PERM]), expected_of(model, X, Y))


MODES = [{}, {"find_unused_parameters": True}, {"static_graph": True}]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("options", [KINDS[0], KINDS[3]], ids=str)
def test_distributed_data_parallel(options, mode, tmp_path):
    with process_group(0, 1, str(tmp_path)):
        model = model_of(options)
        loss = NMLoss(DPSHLoss(), model[1])
        value, slopes = expected_of(model, X, Y)
        parallel = DistributedDataParallel(model, **mode)
        for _ in range(3):
            model.zero_grad()
            found = loss(parallel(X)[PERM], Y[PERM])
            found.backward()
            torch.testing.assert_close(found, value)
            grads = [p.grad for p in model.parameters()]
            torch.testing.assert_close(grads, list(slopes), rtol=1e-4, atol=1e-6)
        # Its reducer has to go before the group does, whose threads it would wait for
        del parallel, found, grads
        gc.collect()


def test_what_a_gathering_wrapper_loses_is_refused():
    model = model_of({})
    wide = torch.randn(12, 8)  # as DataParallel gathers 4 outputs and 4 class scores
    model[1].constant_width = False
    with pytest.raises(
        ValueError, match=r"\(B, 4\), got \(12, 8\).*DistributedDataParallel"
    ):
        NMLoss(DPSHLoss(), model[1])(wide, Y)


def test_data_parallel_on_the_cpu_is_the_module():
    model = model_of({})
    equal(
        model,
        NMLoss(DPSHLoss(), model[1])(nn.DataParallel(model)(X), Y),
        expected_of(model, X, Y),
    )


CHANGES = {
    "normalised": F.normalize,
    "scaled": lambda h: 2 * h,
    "mixed up": lambda h: 0.5 * (h + h.flip(0)),
    "from elsewhere": lambda h: torch.cat([h[:6], torch.randn(6, 4)]),
    "plain": lambda h: h + 0,
}


@pytest.mark.parametrize("change", CHANGES)
def test_outputs_that_were_changed_are_refused(change):
    model = model_of({})
    loss = NMLoss(DPSHLoss(), model[1])
    with pytest.raises(ValueError, match="carry no class scores"):
        loss(CHANGES[change](model(X)), Y)


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.mul_(2),
        lambda h: h.__imul__(2),
        lambda h: h.__setitem__(0, 0.0),
        lambda h: h.copy_(h + 0),
        lambda h: F.relu(h, inplace=True),
    ],
)
def test_outputs_that_were_changed_in_place_carry_nothing(change):
    model = model_of({})
    h = model(X).clone()
    change(h)
    with pytest.raises(ValueError, match="carry no class scores"):
        NMLoss(DPSHLoss(), model[1])(h, Y)
    assert torch.equal(binarize(model(X)), model[1].codes(model[0](X)))


def test_heads_side_by_side():
    """As the levels of PML's CascadedEmbeddings are."""
    one, two = model_of({}), model_of({"bits": (12, 6), "longer": "joint"})
    joined = torch.cat([one(X), two(X)], dim=1)
    assert joined.shape == (12, 10)
    parts = joined[PERM][:, 0:4], joined[PERM][:, 4:10]
    for model, part in zip((one, two), parts, strict=True):
        loss = NMLoss(DPSHLoss(), model[1])
        equal(model, loss(part, Y[PERM]), expected_of(model, X, Y))
        with pytest.raises(ValueError, match=r"must have shape"):
            loss(joined, Y)
    assert not isinstance(joined[:, 1:4], CarriedOutputs)
    assert torch.equal(joined.detach() * 1, torch.cat([one(X) * 1, two(X) * 1], 1))


def test_bits_of_outputs_are_plain():
    model = model_of({})
    h = model(X)
    for plain in (h[:, :2], h[:, [0, 1, 2, 3]], h.T, h * 1, h.sum(), h.flatten(), h[0, 0]):
        assert not isinstance(plain, CarriedOutputs)
    assert (h.shape, h.ndim, len(h), h.size(1), h.numel()) == ((12, 4), 2, 12, 4, 48)
    assert torch.equal(h.detach().sign(), model.eval()(X).sign())


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_outputs_of_another_stage_are_refused(options):
    if "bits" in options:
        return
    model = model_of(options, merged=False)
    loss = NMLoss(DPSHLoss(), model[1])
    h = model(X)
    loss(h, Y)
    model[1].merge_next()
    carried = isinstance(h, CarriedOutputs)
    if carried or not options.get("constant_width"):
        with pytest.raises(ValueError, match="after 0 merges" if carried else r"\(B, 4\)"):
            loss(h, Y)


@pytest.mark.parametrize("options", [KINDS[0], KINDS[3]], ids=str)
def test_forward_passes_without_a_loss_hold_nothing(options):
    model = model_of(options)
    made = []
    for module in model.modules():
        module.register_forward_hook(lambda _, x, out: made.append(weakref.ref(out)))
    for _ in range(200):
        model(X)
    gc.collect()
    assert len(made) > 600
    assert not any(each() is not None for each in made)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_loss_in_eval_mode_is_the_sum_of_what_it_names(options):
    model = model_of(options)
    loss = NMLoss(DPSHLoss(), model[1]).eval()
    graph = [layer.graph.items.item() for layer in model[1].layers]
    named = {}
    for mode in (True, False):
        h = model.train(mode)(X)
        terms = loss.terms(h, Y)
        torch.testing.assert_close(loss(h, Y), sum(terms.values()))
        named[mode] = set(terms)
    knows = model[1].classes is not None
    wanted = {"loss", "labels", "classes"} if knows else {"loss"}
    wanted |= {"codewords"} if model[1].constant_width else set()
    assert named[True] == wanted
    assert named[False] == named[True] - {"classes"}
    assert graph == [layer.graph.items.item() for layer in model[1].layers]


def test_a_reference_set_and_a_miner_see_the_embeddings():
    model = model_of({})
    a, b = model(X[HALVES[0]]), model(X[HALVES[1]])
    base = losses.ContrastiveLoss()
    pairs = miners.PairMarginMiner()(a, Y[HALVES[0]], b, Y[HALVES[1]])
    given = Y[HALVES[0]], pairs
    terms = NMLoss(base, model[1]).terms(a, *given, b, Y[HALVES[1]])
    plain, reference = unpack(a)[0].embeddings, unpack(b)[0].embeddings
    assert type(plain) is torch.Tensor
    torch.testing.assert_close(terms["loss"], base(plain, *given, reference, Y[HALVES[1]]))


def in_two_processes(rank, folder):
    """Compare a distributed loss on either side of NMLoss with one process of all items."""
    with process_group(rank, 2, folder):
        model = model_of({})
        trunk, head = model
        half, other = HALVES[rank], HALVES[1 - rank]
        plain = NMLoss(DPSHLoss(), head).eval()
        own = plain.terms(head.outputs(trunk(X[half])), Y[half])
        both = torch.cat([X[half], X[other]]), torch.cat([Y[half], Y[other]])
        union = plain.terms(head.outputs(trunk(both[0])), both[1])
        wrap = pml_distributed.DistributedLossWrapper  # multiplies by the processes
        expected = {
            wrap(NMLoss(DPSHLoss(), head)): 2 * sum(union.values()),
            NMLoss(wrap(DPSHLoss()), head): 2 * union["loss"]
            + sum(term for name, term in own.items() if name != "loss"),
        }
        for loss, wanted in expected.items():
            value = loss(model(X[half]), Y[half])
            torch.testing.assert_close(value, wanted)
            value.backward()
            assert all(p.grad.isfinite().all() for p in model.parameters())


def test_pml_distributed_wrapper_on_either_side(tmp_path):
    run_group(in_two_processes, 2, str(tmp_path))
