"""Losses inside PML's DistributedLossWrapper, on two processes, against one process.

With W processes, PML multiplies the loss by W, and all_gather carries no gradient to the
embeddings of other processes. DistributedDataParallel then averages gradients over W.

efficient=False: every process computes the loss of the union, so loss / W and gradients / W
    are those of one process on the union, each process holding its own shard's part.
efficient=True: every process pairs its own shard with the union. loss / W and gradients / W
    are those of one process on (shard; union) with the other shards detached. Where a loss
    is a mean over its rows, the mean over processes of loss / W is the loss of the union;
    its gradient is not, since what others say about a shard never reaches it.

To add a loss, add a Case.
"""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.reducers import MeanReducer
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu
from pytorch_metric_learning.utils.distributed import (
    DistributedLossWrapper,
    DistributedMinerWrapper,
)

from pml_nmlayer.labels import LabelSets
from pml_nmlayer.losses import DPSHLoss, HashCrossBatchMemory, MultiLabelLoss
from pml_nmlayer.miners import MultiLabelMiner
from tests.processes import process_group, run_group

WORLD, SHARD, D, K = 2, 6, 5, 8


@dataclasses.dataclass
class Case:
    """A loss to try; `row_mean`: the loss is a mean over its rows, pairs or triplets."""

    make: Callable[[], torch.nn.Module]
    row_mean: bool = False
    modes: tuple[str, ...] = ("gathered", "efficient")


CASES = {
    "DPSH": Case(lambda: DPSHLoss(preset="paper"), row_mean=True),
    "DPSH balanced": Case(DPSHLoss),
    "MultiLabel contrastive": Case(lambda: MultiLabelLoss(losses.ContrastiveLoss())),
    "MultiLabel triplet": Case(
        lambda: MultiLabelLoss(losses.TripletMarginLoss(reducer=MeanReducer()))
    ),
    "memory": Case(
        lambda: HashCrossBatchMemory(DPSHLoss(), K, memory_size=40), modes=("gathered",)
    ),
    "memory of rows": Case(
        lambda: HashCrossBatchMemory(DPSHLoss(), K, memory_size=40, num_classes=3),
        modes=("gathered",),
    ),
}
CLASS_IDS_ONLY, ROWS_ONLY = {"memory"}, {"memory of rows"}


def runs():
    for name, case in CASES.items():
        for mode in case.modes:
            for kind in ("ids", "rows"):
                if name not in (ROWS_ONLY if kind == "ids" else CLASS_IDS_ONLY):
                    yield name, mode, kind


def data(kind):
    """Inputs, labels (every item has one) and the weight that all processes share."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(WORLD * SHARD, D, generator=generator)
    ids = torch.arange(WORLD * SHARD) % 3
    rows = torch.nn.functional.one_hot(ids) | (
        torch.rand(WORLD * SHARD, 3, generator=generator) < 0.2
    )
    weight = torch.randn(D, K, generator=generator)
    return x, ids if kind == "ids" else rows.long(), weight


def shard(tensor, rank):
    return tensor[rank * SHARD : (rank + 1) * SHARD]


def embed(x, weight):
    embeddings = x @ weight
    embeddings.retain_grad()
    return embeddings


def work(rank, folder):
    """Run everything on one of the processes and save what came out."""
    with process_group(rank, WORLD, folder):
        results = {run: run_here(rank, *run) for run in runs()}
        torch.save(results, f"{folder}/{rank}.pt")


def run_here(rank, name, mode, kind):
    x, labels, weight = data(kind)
    labels, weight = shard(labels, rank), weight.requires_grad_()
    embeddings = embed(shard(x, rank), weight)
    efficient = mode == "efficient"
    loss_func = DistributedLossWrapper(CASES[name].make(), efficient=efficient)
    pairs = None
    if efficient and kind == "rows":  # PML builds pairs from class ids only
        pairs = DistributedMinerWrapper(MultiLabelMiner(), efficient=True)(
            embeddings, labels
        )
    loss = loss_func(embeddings, labels, pairs)
    loss.backward()
    return loss.item(), embeddings.grad, weight.grad


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("processes"))
    run_group(work, WORLD, folder)
    return [torch.load(f"{folder}/{rank}.pt") for rank in range(WORLD)]


def one_process(name, kind):
    x, labels, weight = data(kind)
    embeddings = embed(x, weight.requires_grad_())
    loss = CASES[name].make()(embeddings, labels)
    loss.backward()
    return loss.item(), embeddings.grad, weight.grad


def shard_against_union(rank, name, kind):
    """One process on (shard; union), with all but the shard detached."""
    x, labels, weight = data(kind)
    embeddings = embed(shard(x, rank), weight.requires_grad_())
    other = 1 - rank
    union = torch.cat([embeddings, shard(x @ weight, other).detach()])
    own, all_labels = (
        shard(labels, rank),
        torch.cat([shard(labels, rank), shard(labels, other)]),
    )
    sides = (own, all_labels) if kind == "ids" else (LabelSets(own), LabelSets(all_labels))
    a1, p, a2, n = lmu.get_all_pairs_indices(*sides)
    pairs = a1[a1 != p], p[a1 != p], a2, n
    loss = CASES[name].make()(embeddings, own, pairs, union, all_labels)
    loss.backward()
    return loss.item(), embeddings.grad, weight.grad


GATHERED = [run for run in runs() if run[1] == "gathered"]
EFFICIENT = [run for run in runs() if run[1] == "efficient"]


@pytest.mark.parametrize("run", GATHERED, ids="-".join)
def test_gathered_equals_one_process_on_the_union(results, run):
    name, _, kind = run
    loss, grad, weight_grad = one_process(name, kind)
    for rank in range(WORLD):
        found, found_grad, _ = results[rank][run]
        assert found / WORLD == pytest.approx(loss, rel=1e-5)
        torch.testing.assert_close(found_grad / WORLD, shard(grad, rank))
    averaged = sum(results[rank][run][2] for rank in range(WORLD)) / WORLD
    torch.testing.assert_close(averaged, weight_grad)


@pytest.mark.parametrize("run", EFFICIENT, ids="-".join)
def test_efficient_equals_one_process_on_shard_and_union(results, run):
    name, _, kind = run
    for rank in range(WORLD):
        loss, grad, weight_grad = shard_against_union(rank, name, kind)
        found, found_grad, found_weight_grad = results[rank][run]
        assert found / WORLD == pytest.approx(loss, rel=1e-5)
        torch.testing.assert_close(found_grad / WORLD, grad)
        torch.testing.assert_close(found_weight_grad / WORLD, weight_grad)


@pytest.mark.parametrize(
    "run", [r for r in EFFICIENT if CASES[r[0]].row_mean], ids="-".join
)
def test_efficient_averages_to_the_loss_of_the_union_but_not_its_gradient(results, run):
    name, _, kind = run
    loss, _, weight_grad = one_process(name, kind)
    averaged = sum(results[rank][run][0] / WORLD for rank in range(WORLD)) / WORLD
    assert averaged == pytest.approx(loss, rel=1e-5)
    found = sum(results[rank][run][2] for rank in range(WORLD)) / WORLD
    assert not torch.allclose(found, weight_grad, rtol=0.01)
