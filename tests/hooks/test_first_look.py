"""Trainings that cannot work say so at the first step."""

import copy

import pytest
import torch
from pytorch_metric_learning import losses, trainers
from torch import nn
from torch.utils.data import TensorDataset

from pml_nmlayer.hooks import ProgressiveMerging
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import NMLoss

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(32) % 4

# PML advises to have an optimizer for each model
pytestmark = pytest.mark.filterwarnings("ignore:.*is missing")


def train(
    head, loss=None, trained=None, unit="epoch", optimizer=torch.optim.SGD, **options
):
    merging = ProgressiveMerging(head, **{f"{unit}s_per_stage": 5})
    trained = {"embedder": head} if trained is None else trained
    trainer = trainers.MetricLossOnly(
        models={"trunk": nn.Linear(6, 6), "embedder": head},
        optimizers={
            f"{name}_optimizer": optimizer(model.parameters(), lr=0.1)
            for name, model in trained.items()
        },
        batch_size=16,
        loss_funcs={
            "metric_loss": NMLoss(losses.ContrastiveLoss(), head) if loss is None else loss
        },
        dataset=TensorDataset(X, Y),
        dataloader_num_workers=0,
        data_device=torch.device("cpu"),
        **{f"end_of_{unit}_hook": getattr(merging, f"end_of_{unit}_hook")},
        **options,
    )
    trainer.train(num_epochs=1)


def make_head():
    return ProgressiveHead(6, (12, 6))


@pytest.mark.parametrize("unit", ["epoch", "iteration"])
def test_a_sound_training_passes(unit):
    train(make_head(), unit=unit)


@pytest.mark.parametrize("unit", ["epoch", "iteration"])
def test_a_head_that_no_optimizer_holds(unit):
    head, trunk = make_head(), nn.Linear(6, 6)
    with pytest.raises(RuntimeError, match="no optimizer holds the parameters"):
        train(head, trained={"trunk": trunk}, unit=unit)
    with pytest.raises(RuntimeError, match="no optimizer holds the parameters"):
        train(head, trained={"embedder": copy.deepcopy(head)}, unit=unit)


def test_a_head_that_is_to_stay_may_stay():
    head = make_head().requires_grad_(False)
    trunk = nn.Linear(6, 6)
    merging = ProgressiveMerging(head, epochs_per_stage=1)
    trainer = trainers.MetricLossOnly(
        models={"trunk": trunk, "embedder": head},
        optimizers={"trunk_optimizer": torch.optim.SGD(trunk.parameters(), 0.1)},
        batch_size=16,
        loss_funcs={"metric_loss": NMLoss(losses.ContrastiveLoss(), head)},
        dataset=TensorDataset(X, Y),
        dataloader_num_workers=0,
        data_device=torch.device("cpu"),
        end_of_epoch_hook=merging.end_of_epoch_hook,
    )
    trainer.train(num_epochs=1)
    assert head.finished


@pytest.mark.parametrize("unit", ["epoch", "iteration"])
def test_a_loss_in_eval_mode(unit):
    with pytest.raises(RuntimeError, match=r"NMLoss .* is in eval mode.*freeze_these"):
        train(make_head(), freeze_these=("metric_loss",), unit=unit)


@pytest.mark.parametrize("unit", ["epoch", "iteration"])
def test_no_nm_loss_of_this_head(unit):
    for wrong in (
        losses.ContrastiveLoss(),
        NMLoss(losses.ContrastiveLoss(), make_head()),
    ):
        with pytest.raises(RuntimeError, match="is an NMLoss around this head"):
            train(make_head(), wrong, unit=unit)


def test_a_head_that_observes_by_other_means_passes():
    head = make_head()
    head.observe(head(X), Y)
    train(head, losses.ContrastiveLoss())


def test_a_head_without_merges_needs_no_nm_loss():
    head = ProgressiveHead(6, 12)
    merging = ProgressiveMerging(head, epochs_per_stage=1)
    assert not merging.step(1)
