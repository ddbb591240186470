"""A merge is made in full and told of, or not made at all."""

import logging

import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import nn

from pml_nmlayer.classes.read_out import ClassReadOut
from pml_nmlayer.heads import progressive_head
from pml_nmlayer.heads.longer_codes import LongerCodes
from pml_nmlayer.hooks import ProgressiveMerging
from pml_nmlayer.layers import NMLayer, ProgressiveHead
from pml_nmlayer.losses import NMLoss
from pml_nmlayer.merging.chain import MergeChain

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(32) % 4


def observed(stage=0, **options):
    torch.manual_seed(0)
    head = ProgressiveHead(6, (12, 6, 3), **options)
    for _ in range(stage):
        head.observe(head(X), Y)
        head.merge_next()
    head.observe(head(X), Y)
    return head


def fails(*args, **kwargs):
    raise NotImplementedError("mixed torch.Tensor and DTensor")


def then_fails(owner, name):
    """Do it, and fail at its end."""
    done = getattr(owner, name)

    def call(*args, **kwargs):
        done(*args, **kwargs)
        fails()

    return call


POINTS = {
    "plan": (NMLayer, "plan"),
    "codebook": (ClassReadOut, "codebook_for"),
    "fold": (progressive_head, "fold_into"),
    "snapshot": (LongerCodes, "remember"),
    "codewords": (ClassReadOut, "set_codewords"),
    "groups": (NMLayer, "freeze"),
    "commit": (MergeChain, "commit"),
}


@pytest.mark.parametrize("late", [False, True], ids=["at once", "at its end"])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("training", [True, False])
def test_a_merge_that_fails_leaves_the_head_as_it_was(
    point, late, stage, training, monkeypatch
):
    head, twin = observed(stage, num_classes=4), observed(stage, num_classes=4)
    head.train(training)
    twin.train(training)
    before = {name: each.clone() for name, each in head.state_dict().items()}
    owner, name = POINTS[point]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, then_fails(owner, name) if late else fails)
        with pytest.raises(NotImplementedError, match="DTensor"):
            head.merge_next()
    assert (head.bits, head.stage) == (head.all_bits[stage], stage)
    assert [layer.phase for layer in head.layers] == ["frozen"] * stage + ["active"] * (
        2 - stage
    )
    torch.testing.assert_close(head.state_dict(), before, rtol=0, atol=0)
    head.merge_next()
    twin.merge_next()
    torch.testing.assert_close(head.state_dict(), twin.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(head.eval()(X), twin.eval()(X), rtol=0, atol=0)
    assert torch.equal(head.codes(X, 12), twin.codes(X, 12))


def test_each_merge_is_a_line_in_the_log(caplog):
    head = observed()
    with caplog.at_level(logging.INFO, logger="pml_nmlayer"):
        head.merge_next()
        merging = ProgressiveMerging(head, schedule=(1, 7))
        head.observe(head(X), Y)
        head.observe(head(X[:8]), Y[:8])
        assert merging.step(7)
    assert caplog.messages == [
        "merged 12 -> 6 bits; 32 items counted in 1 batches",
        "epoch 7: merged 6 -> 3 bits; 40 items counted in 2 batches",
    ]


def test_a_merge_that_failed_is_not_in_the_log(caplog):
    head = ProgressiveHead(6, (12, 6))
    with (
        caplog.at_level(logging.INFO, logger="pml_nmlayer"),
        pytest.raises(RuntimeError, match="seen no usable batch"),
    ):
        head.merge_next()
    assert caplog.messages == []


def test_a_merge_without_a_batch_names_the_causes():
    with pytest.raises(RuntimeError) as error:
        ProgressiveHead(6, (12, 6)).merge_next()
    for words in ("NMLoss(loss, head)", "eval mode", "freeze_these", "torch.no_grad()"):
        assert words in str(error.value)


def test_a_head_in_a_model_merges_alone():
    """Buffers around the head are none of its business."""
    model = nn.Sequential(nn.BatchNorm1d(6), observed())
    model(X)
    mean = model[0].running_mean.clone()
    model[1].merge_next()
    assert torch.equal(model[0].running_mean, mean)


def test_a_merge_that_has_seen_few_of_its_classes_warns():
    head = ProgressiveHead(6, (8, 6), num_classes=17, scorer="correlation")
    head.observe(head(torch.randn(20, 6)), torch.arange(20) % 2)
    with pytest.warns(UserWarning, match=r"2 of 17 classes were seen .*multilabel"):
        head.merge_next()


def test_one_column_of_multi_hot_rows_is_noticed_by_the_loss():
    rows = torch.nn.functional.one_hot(torch.arange(20) % 4, 4)
    head = ProgressiveHead(6, (8, 4))
    loss = NMLoss(SupConLoss(), head)
    with pytest.warns(UserWarning, match=r"one column of 4.*multilabel\(Trainer\)"):
        loss(head(torch.randn(20, 6)), rows[:, 0])
    loss(head(torch.randn(20, 6)), rows[:, 0])  # says it once
    known = ProgressiveHead(6, (8, 4), num_classes=4)
    with pytest.raises(ValueError, match="num_classes=4, so whole rows are meant"):
        NMLoss(SupConLoss(), known)(known(torch.randn(20, 6)), rows[:, 0])
