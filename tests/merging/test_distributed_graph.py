"""The redundancy graph on several processes is that of one process on the union."""

import pytest
import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pml_nmlayer.hooks import ProgressiveMerging, WhenPlateau
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import NMLoss
from pml_nmlayer.merging.scorers import make_scorer
from tests.processes import process_group, run_group

STEPS, BATCH, WIDTH, CLASSES = 12, 24, 8, 4
SCORERS = ("correlation", "drop_one", "codewords")
EMPTY_STEP = 3  # the last process has no items in this step
NAN_STEP = 5  # the first process has a NaN in this step


def batch(step, kind):
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(BATCH, WIDTH, generator=generator)
    y = torch.randint(CLASSES, (BATCH,), generator=generator)
    if kind == "rows":
        y = nn.functional.one_hot(y, CLASSES) == 1
    if step == NAN_STEP:
        x[0, 0] = torch.nan
    return x, y


def shares(step, world):
    """Row numbers of each process: uneven, once with nothing for the last one."""
    sizes = [BATCH // world] * world
    sizes[0] += 3
    sizes[-1] -= 3
    if step == EMPTY_STEP:
        sizes[0] += sizes[-1]
        sizes[-1] = 0
    return torch.arange(BATCH).split(sizes)


def make_head(name):
    """Steps 1 and 4 of six are measured, 3 and 5 counted, 2 and 6 passed by."""
    torch.manual_seed(0)
    scorer = make_scorer(name)
    scorer.every_n_steps, scorer.count_every_n_steps, scorer.count_first = 3, 2, 0
    return ProgressiveHead(WIDTH, (12, 6, 3), scorer=scorer, num_classes=CLASSES)


def observe_and_merge(scorer, kind, rows_of):
    """Feed all batches; merge after steps 6 and 12. States before and after each merge."""
    head, states = make_head(scorer), []
    merging = ProgressiveMerging(head, iterations_per_stage=6)
    for step in range(1, STEPS + 1):
        x, y = batch(step, kind)
        rows = rows_of(step)
        head.observe(head(x[rows]), y[rows])
        if step % 6 == 0:
            states.append({n: v.clone() for n, v in head.state_dict().items()})
        merging.step(step)
    states.append({n: v.clone() for n, v in head.state_dict().items()})
    return states


def train_with_ddp(rank, world, classes):
    """Train through PML's wrapper, with its weights started apart but for DDP."""
    torch.manual_seed(rank)
    head = ProgressiveHead(16, (12, 6, 3), num_classes=classes)
    net = nn.Sequential(nn.Linear(WIDTH, 16), nn.ReLU(), head)
    model = DistributedDataParallel(net)
    loss = NMLoss(DistributedLossWrapper(losses.ContrastiveLoss()), head)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    merging = ProgressiveMerging(head, schedule=WhenPlateau(patience=3))
    stages = []
    for step in range(10, 22):
        x, y = batch(step, "ids")
        rows = torch.arange(BATCH).chunk(world)[rank]
        optimizer.zero_grad()
        loss(model(x[rows]), y[rows]).backward()
        optimizer.step()
        merging.step(step - 9, metric=float(-step if rank == 0 else step))  # they disagree
        stages.append(head.stage)
    return stages, net.state_dict()


def work(rank, world, folder):
    with process_group(rank, world, folder):
        results = {
            (scorer, kind): observe_and_merge(
                scorer, kind, lambda step: shares(step, world)[rank]
            )
            for scorer in SCORERS
            for kind in ("ids", "rows")
        }
        for classes in (None, CLASSES):
            results["ddp", classes] = train_with_ddp(rank, world, classes)
        torch.save(results, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module", params=[2, 4])
def results(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    run_group(work, request.param, request.param, str(folder))
    return [torch.load(f"{folder}/{rank}.pt") for rank in range(request.param)]


@pytest.mark.parametrize("kind", ["ids", "rows"])
@pytest.mark.parametrize("scorer", SCORERS)
def test_the_graph_is_that_of_the_union(results, scorer, kind):
    expected = observe_and_merge(scorer, kind, lambda step: slice(None))
    assert expected[0]["merges.layers.0.graph.skipped_batches"] == 1
    for found in results:
        for state, one_process in zip(found[scorer, kind], expected, strict=True):
            for name, value in one_process.items():
                torch.testing.assert_close(state[name], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scorer", SCORERS)
def test_all_processes_hold_the_same(results, scorer):
    first = results[0][scorer, "ids"]
    for found in results[1:]:
        for mine, state in zip(found[scorer, "ids"], first, strict=True):
            for name, value in state.items():
                assert torch.equal(mine[name], value), name


@pytest.mark.parametrize("classes", [None, CLASSES])
def test_data_parallel_training_merges_in_step(results, classes):
    stages, state = results[0]["ddp", classes]
    assert stages[-1] == 2
    assert ("2.classes.classifier.weight" in state) == (classes is not None)
    for other_stages, other in (found["ddp", classes] for found in results[1:]):
        assert other_stages == stages
        for name, value in state.items():
            torch.testing.assert_close(other[name], value, msg=name)
