"""Training steps in mixed precision, compiled, and without waiting for a device."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import DPSHLoss, NMLoss
from pml_nmlayer.merging.scorers import SCORERS

X = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
Y = torch.arange(32) % 4
MULTI_HOT = nn.functional.one_hot(Y, 4) | nn.functional.one_hot(Y.flip(0), 4)
OPTIONS = [
    {},
    {"activation": None},
    {"batch_norm": True},
    {"constant_width": True},
    {"longer": "joint"},
    {"num_classes": 4},
    {"num_classes": 4, "activation": None, "longer": "joint"},
]


def model_in_stage(stage, **options):
    torch.manual_seed(0)
    if options.get("scorer") == "codewords":
        options = {"num_classes": 4} | options
    trunk = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
    model = nn.Sequential(trunk, ProgressiveHead(16, (24, 12, 6), **options))
    for _ in range(stage):
        model[1].observe(model(X), Y)
        model[1].merge_next()
    return model


class NoSync(TorchDispatchMode):
    """Refuses what makes the host wait for a device."""

    WAITING = (
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.nonzero.default,
        torch.ops.aten.masked_select.default,
        torch.ops.aten.equal.default,
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in self.WAITING, func
        if func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default):
            masks = [i for i in args[1] if i is not None and i.dtype == torch.bool]
            assert not masks, "boolean index"
        return func(*args, **(kwargs or {}))


def test_the_watch_works():
    with NoSync(), pytest.raises(AssertionError):
        bool(torch.ones(2).sum() > 1)
    with NoSync(), pytest.raises(AssertionError):
        torch.ones(2)[torch.tensor([True, False])]


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("labels", [Y, MULTI_HOT], ids=["ids", "rows"])
def test_a_step_does_not_wait_for_a_device(scorer, options, labels, monkeypatch):
    # Class ids are checked on the CPU, where that costs nothing, and nowhere else
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    for stage in (0, 1, 2):
        model = model_in_stage(stage, scorer=scorer, **options)
        loss = NMLoss(DPSHLoss(), model[1])
        if not model[1].finished:
            model[1].current_layer.scorer.count_first = 1
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with NoSync():
            for _ in range(9):  # one that is measured, seven passed by, one counted
                loss(model(X), labels).backward()
                optimizer.step()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("scaled", [False, True], ids=["autocast", "with GradScaler"])
def test_mixed_precision_trains_through_all_stages(options, scaled):
    model = model_in_stage(0, **options)
    loss = NMLoss(DPSHLoss(), model[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", enabled=scaled)
    values = []
    for step in range(30):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(model(X), Y)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        values.append(value.item())
        if step in (9, 19):
            model[1].merge_next()
    assert model[1].finished
    assert values[9] < values[0]
    assert values[-1] < values[20]
    assert model[1].layers[1].graph.moment.dtype == torch.float32
    assert all(torch.isfinite(p).all() for p in model.parameters())


# Dynamo itself instantiates autograd functions, which torch warns about.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_trunk_and_head_compile_as_one_graph_in_each_phase(options):
    torch.compiler.reset()
    model = model_in_stage(0, **options)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    loss = NMLoss(DPSHLoss(), model[1])
    for stage in range(3):  # one compiled model lives through the merges
        model.zero_grad()
        loss(compiled(X), Y).backward()
        found = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        loss(model(X), Y).backward()
        for mine, p in zip(found, model.parameters(), strict=True):
            torch.testing.assert_close(mine, p.grad)
        assert model[1].bits == (24, 12, 6)[stage]
        if stage < 2:
            model[1].merge_next()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_compiled_step_learns_and_observes_the_same():
    torch.compiler.reset()
    model = model_in_stage(0, num_classes=4)
    twin = copy.deepcopy(model)
    counter = CompileCounterWithBackend("aot_eager")

    def step_of(network):
        loss = NMLoss(DPSHLoss(), network[1])
        return lambda x, y: loss(network[1].outputs(network[0](x)), y)

    step, plain = step_of(model), step_of(twin)
    for stage in range(3):
        finished = stage == 2  # nothing is observed any more: one graph
        compiled = torch.compile(step, backend=counter, fullgraph=finished)
        for number in range(19):  # measured ones, counted ones and some passed over
            value, expected = compiled(X, Y), plain(X, Y)
            value.backward()
            expected.backward()
            torch.testing.assert_close(value, expected)
            if number == 1:
                before = counter.frame_count
        assert counter.frame_count == before  # no batch is compiled anew
        for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad)
        for mine, other in zip(model.buffers(), twin.buffers(), strict=True):
            torch.testing.assert_close(mine, other)
        if not finished:
            model[1].merge_next()
            twin[1].merge_next()


class Operations(TorchDispatchMode):
    """Counts operations that a device would launch something for."""

    FREE = (
        "_record_function alias as_strided detach empty empty_like expand lift_fresh "
        "new_empty permute select slice split t transpose unbind unsqueeze view "
        "_unsafe_view new_empty_strided empty_strided is_same_size squeeze diagonal "
        "split_with_sizes _reshape_alias"
    ).split()

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name not in self.FREE and not name.startswith("_record_function"):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def operations_of(model, loss, steps):
    with Operations() as seen:
        for _ in range(steps):
            loss(model(X), Y).backward()
    return len(seen.names) / steps


@pytest.mark.parametrize(("stage", "most"), [(0, 43), (2, 48)])
def test_a_step_with_classes_launches_little_more(stage, most, monkeypatch):
    # Class ids are checked on the CPU, where that costs nothing, and nowhere else
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    model = model_in_stage(stage, num_classes=4)
    loss, width = NMLoss(DPSHLoss(), model[1]), model[1].bits
    plain = nn.Sequential(model[0], nn.Linear(16, width), nn.Tanh())
    for _ in range(2):
        for network, criterion in ((model, loss), (plain, DPSHLoss())):
            operations_of(network, criterion, 1)  # gradients are there from now on
    if stage == 0:
        model[1].current_layer.scorer.count_first = 0
        model[1].current_layer.scorer.count_every_n_steps = 1000
        model[1].current_layer.scorer.every_n_steps = 1000
    assert operations_of(model, loss, 3) <= operations_of(plain, DPSHLoss(), 3) + most


def test_a_nan_step_is_skipped_and_counted():
    model = model_in_stage(0)
    loss = NMLoss(DPSHLoss(), model[1])
    graph = model[1].layers[0].graph
    loss(model(X), Y)
    before = graph.moment.clone()
    bad = X.clone()
    bad[5] = torch.inf
    assert loss(model(bad), Y).isnan()
    assert torch.equal(graph.moment, before)
    assert graph.skipped_batches == 1
    loss(model(X), Y)
    model[1].merge_next()
    assert torch.isfinite(model(X)).all()


def test_a_chain_down_to_one_bit():
    head = ProgressiveHead(16, (6, 3, 1))
    for _ in range(2):
        head.observe(head(X), Y)
        head.merge_next()
    assert head.codes(X).shape == head.fold()(X).shape == (32, 1)
