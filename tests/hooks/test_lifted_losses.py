"""Losses that own vectors or a memory train through merges, at constant width."""

import copy
import logging

import pytest
import torch
from pytorch_metric_learning import losses, trainers
from pytorch_metric_learning.samplers import MPerClassSampler
from torch import nn

from pml_nmlayer.hooks import ProgressiveMerging
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import DPSHLoss, HashCrossBatchMemory, NMLoss
from pml_nmlayer.ranking import mean_average_precision
from tests.digits import digits

BITS = (24, 12, 6)
EPOCHS, BATCH = 14, 64
STEPS = 500 // BATCH  # an epoch
CLASSES = {"num_classes": 10, "embedding_size": BITS[0]}
logging.getLogger("PML").setLevel(logging.ERROR)

LOSSES = {
    "ProxyAnchor": lambda: losses.ProxyAnchorLoss(**CLASSES),
    "ProxyNCA": lambda: losses.ProxyNCALoss(**CLASSES, softmax_scale=4),
    "ArcFace": lambda: losses.ArcFaceLoss(**CLASSES, scale=16),
    "CosFace": lambda: losses.CosFaceLoss(**CLASSES, scale=16),
    "SubCenterArcFace": lambda: losses.SubCenterArcFaceLoss(**CLASSES, scale=16),
    "SoftTriple": lambda: losses.SoftTripleLoss(**CLASSES),
    "NormalizedSoftmax": lambda: losses.NormalizedSoftmaxLoss(**CLASSES),
    "CrossBatchMemory": lambda: losses.CrossBatchMemory(
        losses.ContrastiveLoss(), BITS[0], memory_size=4 * BATCH
    ),
    "HashCrossBatchMemory": lambda: HashCrossBatchMemory(
        DPSHLoss(), BITS[0], memory_size=4 * BATCH
    ),
}


def snapshot(trainer):
    """State of all optimizers, one entry a parameter."""
    return copy.deepcopy([list(v.state.values()) for v in trainer.optimizers.values()])


def run(loss, constant_width=None, num_classes=None):
    """Train; returns trainer, head, and values and optimizer states around merges."""
    train, _ = digits()
    trunk = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
    head = ProgressiveHead(64, BITS, num_classes=num_classes)
    wrapped = NMLoss(loss, head, constant_width=constant_width)
    assert head.constant_width == (constant_width is not False)  # switched on by itself
    parts = {"trunk": trunk, "embedder": head, "metric_loss": loss}
    merging = ProgressiveMerging(head, epochs_per_stage=2)
    values, merges = [], []

    def merge(trainer):
        before, stage = snapshot(trainer), head.stage
        merging.end_of_epoch_hook(trainer)
        if head.stage > stage:
            merges.append((before, snapshot(trainer)))

    trainer = trainers.MetricLossOnly(
        models={"trunk": trunk, "embedder": head},
        optimizers={
            f"{name}_optimizer": torch.optim.Adam(part.parameters(), lr=1e-2)
            for name, part in parts.items()
            if list(part.parameters())
        },
        batch_size=BATCH,
        loss_funcs={"metric_loss": wrapped},
        dataset=train,
        sampler=MPerClassSampler(train.tensors[1], m=6, length_before_new_iter=500),
        dataloader_num_workers=0,
        data_device=torch.device("cpu"),
        end_of_iteration_hook=lambda trainer: values.append(
            float(trainer.losses["metric_loss"].detach())
        ),
        end_of_epoch_hook=merge,
    )
    trainer.train(num_epochs=EPOCHS)
    return trainer, head, values, merges


def retrieval(trainer):
    (x, y), (x_test, y_test) = (data.tensors for data in digits())
    trunk, head = trainer.models["trunk"], trainer.models["embedder"]
    codes, queries = head.codes(trunk(x)), head.codes(trunk(x_test))
    return mean_average_precision(queries, y_test, codes, y)


@pytest.mark.parametrize(
    ("name", "num_classes"),
    [*((name, None) for name in LOSSES), ("ArcFace", 10), ("HashCrossBatchMemory", 10)],
)
def test_trains_through_two_merges(name, num_classes):
    loss = LOSSES[name]()
    start = copy.deepcopy(loss)
    parameters = list(loss.parameters())
    trainer, head, values, merges = run(loss, num_classes=num_classes)
    assert head.finished
    assert len(merges) == 2

    # The loss keeps its parameters: the same objects, as wide as ever, and all trained.
    assert all(a is b for a, b in zip(loss.parameters(), parameters, strict=True))
    for now, before in zip(parameters, start.parameters(), strict=True):
        assert now.shape == before.shape
        assert not torch.equal(now, before)
    for now, before in zip(loss.buffers(), start.buffers(), strict=True):
        assert now.shape == before.shape

    # A merge leaves the optimizers alone, and they never start over.
    for before, after in merges:
        torch.testing.assert_close(after, before, rtol=0, atol=0)
    for optimizer in trainer.optimizers.values():
        (group,) = optimizer.param_groups
        assert group["params"]
        for parameter in group["params"]:
            assert optimizer.state[parameter]["step"] == EPOCHS * STEPS

    # The loss falls over all, and from right after the last merge; codes retrieve.
    last = sum(values[-STEPS:])
    assert last < 0.95 * sum(values[:STEPS])
    assert last < 0.95 * sum(values[4 * STEPS : 5 * STEPS])
    assert retrieval(trainer) > 0.4  # 0.1 by chance


@pytest.mark.parametrize("name", ["CrossBatchMemory", "HashCrossBatchMemory"])
def test_a_memory_stays_full_over_a_merge(name):
    loss = LOSSES[name]()
    _, head, _, _ = run(loss)
    assert bool(loss.has_been_filled)
    # rows of the last stage: nothing but what merged outputs are lifted to
    memory, layer = loss.embedding_memory, head.layers[0]
    torch.testing.assert_close(memory, layer.lift(layer.unlift(memory)))


@pytest.mark.parametrize("name", LOSSES)
def test_without_constant_width_the_first_merge_stops_the_training(name):
    with pytest.raises(
        (RuntimeError, ValueError), match=r"64x12 and 24x|X1: 12 X2: 24|64, 12"
    ):
        run(LOSSES[name](), constant_width=False)
