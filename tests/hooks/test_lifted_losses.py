"""Losses that own vectors or a memory train through merges, on a head with lift=True."""

import copy
import logging

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
EPOCHS, BATCH = 8, 64
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
    """State of all optimizers, by optimizer and parameter."""
    return copy.deepcopy({k: dict(v.state) for k, v in trainer.optimizers.items()})


def run(loss):
    """Train; returns trainer, head, and values and optimizer states around merges."""
    train, _ = digits()
    trunk = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
    head = ProgressiveHead(64, BITS, lift=True)
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
        loss_funcs={"metric_loss": NMLoss(loss, head)},
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


if __name__ == "__main__":
    import time

    for name in LOSSES:
        for seed in range(3):
            torch.manual_seed(seed)
            c = time.process_time()
            trainer, head, values, merges = run(LOSSES[name]())
            print(
                name,
                seed,
                round(retrieval(trainer), 2),
                round(time.process_time() - c, 1),
                [
                    round(sum(values[i : i + STEPS]) / STEPS, 2)
                    for i in range(0, len(values), STEPS)
                ],
            )
