"""A head whose merges are not done is not used in silence."""

import copy
import pickle
import warnings

import pytest
import torch
from pytorch_metric_learning import losses, testers, trainers
from torch import nn
from torch.utils.data import TensorDataset

from pml_nmlayer.evaluation import hash_tester
from pml_nmlayer.heads.unfinished import UnfinishedHeadWarning
from pml_nmlayer.hooks import ProgressiveMerging, chain_hooks
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import NMLoss
from pml_nmlayer.retrieval import HashEncoder

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(32) % 4
CPU = torch.device("cpu")


def make_head(bits=(12, 6, 3), stage=0):
    head = ProgressiveHead(6, bits)
    for _ in range(stage):
        head.observe(head(X), Y)
        head.merge_next()
    return head


def messages(call):
    """What a call says of unfinished heads."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    found = [each for each in caught if issubclass(each.category, UnfinishedHeadWarning)]
    return [str(each.message) for each in found]


def judge(head, make=hash_tester):
    tester = make(dataloader_num_workers=0, data_device=CPU, batch_size=32)
    tester.test({"val": TensorDataset(X, Y)}, 1, nn.Identity(), head)


USES = {
    "fold": lambda head: head.fold(),
    "encoder": lambda head: HashEncoder(nn.Identity(), head),
    "encoder, within others": lambda head: HashEncoder(
        nn.Identity(), nn.Sequential(nn.Identity(), head)
    ),
    "tester": judge,
    "tester, within others": lambda head: judge(nn.Sequential(head)),
}


@pytest.mark.parametrize("use", USES)
def test_one_warning_a_head_and_stage(use):
    head = make_head()
    (first,) = messages(lambda: USES[use](head))
    for words in ("12 bits", "made for 3 bits", "0 of 2 merges", "merge_next"):
        assert words in first
    assert "ProgressiveMerging" in first
    assert "train longer" in first
    for other in USES.values():
        assert messages(lambda: other(head)) == []  # noqa: B023
    head.train().observe(head(X), Y)
    head.merge_next()
    (second,) = messages(lambda: USES[use](head))
    assert "a head of 6 bits" in second
    assert "1 of 2 merges" in second
    assert len(messages(lambda: USES[use](make_head()))) == 1


@pytest.mark.parametrize("use", USES)
def test_finished_heads_and_heads_without_merges_say_nothing(use):
    for head in (make_head(stage=2), make_head(bits=48), nn.Linear(6, 12)):
        if use != "fold" or isinstance(head, ProgressiveHead):
            assert messages(lambda: USES[use](head)) == []  # noqa: B023


def test_a_length_that_was_asked_for_is_no_accident():
    head = make_head(stage=1)
    assert messages(lambda: [head.fold(bits=12), head.fold(bits=6)]) == []
    assert messages(lambda: HashEncoder(nn.Identity(), head.fold(bits=6))) == []


def test_states_copies_and_pickles_know_nothing_of_it():
    head = make_head()
    keys = list(head.state_dict())
    assert len(messages(head.fold)) == 1
    assert list(head.state_dict()) == keys
    for other in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert vars(other).keys() == vars(head).keys()
        assert len(messages(other.fold)) == 1


def train(head, judged, epochs, merging=None):
    hooks = [lambda trainer: judge(head)] if judged else []
    hooks += [merging.end_of_epoch_hook] if merging else []
    trunk = nn.Linear(6, 6)
    trainer = trainers.MetricLossOnly(
        models={"trunk": trunk, "embedder": head},
        optimizers={
            "trunk_optimizer": torch.optim.SGD(trunk.parameters(), 0.1),
            "embedder_optimizer": torch.optim.SGD(head.parameters(), 0.1),
        },
        batch_size=16,
        loss_funcs={"metric_loss": NMLoss(losses.ContrastiveLoss(), head)},
        dataset=TensorDataset(X, Y),
        dataloader_num_workers=0,
        data_device=CPU,
        end_of_epoch_hook=chain_hooks(*hooks),
    )
    trainer.train(num_epochs=epochs)


def test_a_training_as_planned_says_nothing():
    head = make_head()
    merging = ProgressiveMerging(head, epochs_per_stage=1)
    assert messages(lambda: [train(head, True, 3, merging), judge(head)]) == []
    assert head.finished


def test_too_few_epochs_are_noticed_when_training_is_over():
    head = make_head()
    merging = ProgressiveMerging(head, epochs_per_stage=2)
    assert messages(lambda: train(head, True, 3, merging)) == []
    (message,) = messages(lambda: judge(head))
    assert "a head of 6 bits is judged by a tester" in message


def test_a_forgotten_hook_is_noticed_at_the_first_evaluation():
    head = make_head()
    (message,) = messages(lambda: train(head, True, 2))
    assert "0 of 2 merges" in message


def test_the_tester_keeps_its_class_name_and_kind():
    tester = hash_tester(testers.GlobalTwoStreamEmbeddingSpaceTester)
    assert type(tester).__name__ == "GlobalTwoStreamEmbeddingSpaceTester"
    assert isinstance(tester, testers.GlobalTwoStreamEmbeddingSpaceTester)
