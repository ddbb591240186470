"""PML's record keeper sees inside our losses as it sees inside its own."""

import tempfile

import pytest
from pytorch_metric_learning import losses, reducers
from pytorch_metric_learning.utils import logging_presets
from torch import nn

from pml_nmlayer.losses import (
    DPSHLoss,
    HashCrossBatchMemory,
    HashSelfSupervisedLoss,
    MultiLabelLoss,
)
from tests.compatibility import BITS, build, class_ids, embeddings, our_classes


def tables(loss):
    with tempfile.TemporaryDirectory() as folder:
        keeper, _, _ = logging_presets.get_record_keeper(folder)
        keeper.update_records({"metric_loss": loss}, 1, recursive_types=[nn.Module, dict])
        return {name: set(found) for name, found in keeper.record_writer.records.items()}


@pytest.mark.parametrize("cls", [losses.ContrastiveLoss, *our_classes()])
def test_inner_tables_are_there(cls):
    loss = build(cls, reducer=reducers.ThresholdReducer(low=0.0), collect_stats=True)
    loss(embeddings(), class_ids())
    found = tables(loss)
    distance = type(loss.distance).__name__
    assert "power" in found[f"metric_loss_{cls.__name__}__modules_distance_{distance}"]
    assert any("ThresholdReducer" in name and "low" in keys for name, keys in found.items())
    own = set(getattr(loss, "_record_these", []))
    assert own <= found.get(f"metric_loss_{cls.__name__}", set())
    assert own or cls.__name__ == "TieAwareAPLoss"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            HashCrossBatchMemory(losses.ContrastiveLoss(), BITS, 64),
            losses.CrossBatchMemory(losses.ContrastiveLoss(), BITS, 64),
        ),
        (
            HashSelfSupervisedLoss(losses.NTXentLoss()),
            losses.SelfSupervisedLoss(losses.NTXentLoss()),
        ),
    ],
    ids=["memory", "views"],
)
def test_wrappers_show_what_they_wrap(ours, theirs):
    names = type(theirs).__name__, type(ours).__name__
    found = tables(ours)
    for name, keys in tables(theirs).items():
        assert keys <= found[name.replace(*names)]


def test_the_loss_on_rows_shows_its_inner_loss():
    found = tables(MultiLabelLoss(losses.ContrastiveLoss()))
    assert found["metric_loss_MultiLabelLoss__modules_loss_ContrastiveLoss"] == {
        "pos_margin",
        "neg_margin",
    }
    assert "loss_ContrastiveLoss__modules_distance_LpDistance" in found


def test_wrapped_hashing_losses_show_their_options():
    for wrapper in (
        HashCrossBatchMemory(DPSHLoss(), BITS, 64),
        HashSelfSupervisedLoss(DPSHLoss()),
        MultiLabelLoss(DPSHLoss()),
    ):
        assert any("quantization_weight" in keys for keys in tables(wrapper).values())
