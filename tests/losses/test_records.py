"""PML's record keeper sees inside our losses as it sees inside its own."""

import tempfile

import pytest
import torch
from pytorch_metric_learning import losses, reducers
from pytorch_metric_learning.utils import logging_presets
from torch import nn

from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import (
    DPSHLoss,
    HashCrossBatchMemory,
    HashSelfSupervisedLoss,
    MultiLabelLoss,
    NMLoss,
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


def around(loss, num_classes=None, **kwargs):
    head = ProgressiveHead(6, (BITS, 8), num_classes=num_classes)
    return head, NMLoss(loss, head, **kwargs)


def values(loss):
    with tempfile.TemporaryDirectory() as folder:
        keeper, _, _ = logging_presets.get_record_keeper(folder)
        keeper.update_records({"metric_loss": loss}, 1, recursive_types=[nn.Module, dict])
        return {
            name: found[1]
            for name, found in keeper.record_writer.records["metric_loss_NMLoss"].items()
        }


@pytest.mark.parametrize("cls", [losses.ContrastiveLoss, losses.SupConLoss, DPSHLoss])
def test_nm_loss_shows_what_it_wraps_and_nothing_of_its_own(cls):
    inner = build(cls, reducer=reducers.ThresholdReducer(low=0.0), collect_stats=True)
    _, loss = around(inner)
    name, found = cls.__name__, tables(loss)
    assert found.pop("metric_loss_NMLoss") == {"bits"}
    expected = {
        table.replace(f"metric_loss_{name}_", f"loss_{name}_"): keys
        for table, keys in tables(inner).items()
    }
    own = f"metric_loss_{name}"
    expected[f"metric_loss_NMLoss__modules_loss_{name}"] = expected.pop(own)
    assert found == expected
    assert loss.distance is inner.distance
    assert loss.reducer is inner.reducer


def test_a_loss_without_distance_has_none_behind_nm_loss():
    class Plain(nn.Module):
        def forward(self, embeddings, labels, indices_tuple):
            return embeddings.mean()

    head, loss = around(Plain())
    assert loss(head(torch.randn(4, 6)), torch.arange(4)).isfinite()
    assert not hasattr(loss, "distance")
    assert tables(loss) == {"metric_loss_NMLoss": {"bits"}}


@pytest.mark.parametrize("num_classes", [None, 4])
def test_bits_and_terms_of_nm_loss_are_recorded(num_classes):
    head, loss = around(DPSHLoss(), num_classes, collect_stats=True)
    names = ("loss", "codewords", "labels", "classes") if num_classes else ("loss",)
    assert values(loss) == {"bits": BITS} | {f"{name}_term": 0 for name in names}
    x, y = torch.randn(24, 6), class_ids()
    for bits in (BITS, 8):
        outputs = head(x)
        loss(outputs, y)
        terms = loss.terms(outputs, y)
        found = values(loss)
        assert found.pop("bits") == bits
        for name in names:
            assert float(found[f"{name}_term"]) == pytest.approx(float(terms.get(name, 0)))
            kept = getattr(loss, f"{name}_term")
            assert name not in terms or not kept.requires_grad
        if bits == BITS:
            head.merge_next()
    loss(head(x), y).backward()
    assert "loss_term" not in loss.state_dict()


def test_terms_are_kept_only_where_stats_are_wanted():
    head, loss = around(DPSHLoss(), 4)
    loss(head(torch.randn(24, 6)), class_ids())
    assert not [name for name in vars(loss) if name.endswith("_term")]
