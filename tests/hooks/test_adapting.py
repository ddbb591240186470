"""A head adapts from a loader, by itself or when PML's trainer is done."""

import logging
from functools import partial

import pytest
import torch
from pytorch_metric_learning import losses, testers, trainers
from pytorch_metric_learning.utils import logging_presets
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import pml_nmlayer.adaptation
from pml_nmlayer.adaptation import fit_codes
from pml_nmlayer.evaluation import HammingAccuracyCalculator
from pml_nmlayer.hooks import ProgressiveMerging, adapt_head, adapt_when_trained
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import NMLoss
from tests.digits import digits
from tests.processes import process_group, run_group

CPU = torch.device("cpu")
logging.getLogger("PML").setLevel(logging.ERROR)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(pml_nmlayer.adaptation, "fit_codes", partial(fit_codes, steps=5))


def parts(bits=(24, 12), **options):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout())
    return trunk, ProgressiveHead(32, bits, **options)


def trainer_of(trunk, embedder, head=None, **options):
    models, head = {"trunk": trunk, "embedder": embedder}, head or embedder
    return trainers.MetricLossOnly(
        models=models,
        optimizers={
            f"{name}_optimizer": torch.optim.Adam(model.parameters(), lr=1e-2)
            for name, model in models.items()
        },
        batch_size=64,
        loss_funcs={"metric_loss": NMLoss(losses.SupConLoss(), head)},
        dataset=digits()[0],
        dataloader_num_workers=0,
        data_device=CPU,
        **options,
    )


def plain(linear):
    return linear.weight.clone(), linear.bias.clone()


@pytest.mark.parametrize("labelled", [False, True], ids=["unlabelled", "both"])
def test_the_head_learns_from_all_rows_in_eval_mode(labelled):
    trunk, head = parts()
    trunk(torch.randn(50, 64))  # the batch norm has statistics of its own
    trunk[1].eval()
    _, twin = parts()
    (x, y), (u, _) = (each.tensors for each in digits())
    loader = DataLoader(TensorDataset(u), batch_size=70, shuffle=False)
    before = [each.clone() for each in trunk.state_dict().values()]
    modes = [each.training for each in trunk.modules()]
    adapt_head(trunk, head, loader, labelled=digits()[0] if labelled else None)
    assert [each.training for each in trunk.modules()] == modes
    torch.testing.assert_close(list(trunk.state_dict().values()), before, rtol=0, atol=0)
    assert all(each.grad is None for each in trunk.parameters())
    trunk.eval()
    with torch.no_grad():
        if labelled:
            rows = torch.cat([y, torch.full((len(u),), -1)])
            twin.adapt(torch.cat([trunk(x), trunk(u)]), rows)
        else:
            twin.adapt(trunk(u))
    torch.testing.assert_close(plain(head.linear), plain(twin.linear), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["tensor", "dataset", "loader of tensors", "dictionaries"])
def test_items_come_in_any_form(kind):
    trunk, head = parts()
    _, twin = parts()
    trunk.eval()
    (x, y) = digits()[1].tensors
    data, getter = {
        "tensor": (x, None),
        "dataset": (digits()[1], None),
        "loader of tensors": (DataLoader(x, batch_size=30), None),
        "dictionaries": (
            DataLoader([{"image": i, "label": j} for i, j in zip(x, y, strict=True)], 30),
            lambda batch: (batch["image"], batch["label"]),
        ),
    }[kind]
    adapt_head(trunk, head, data, get_data_and_label=getter)
    twin.adapt(trunk(x).detach())
    torch.testing.assert_close(plain(head.linear), plain(twin.linear), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_multi_hot_labels_are_those_of_labelled_items(monkeypatch, dtype):
    trunk, head = parts()
    seen = []
    monkeypatch.setattr(head, "adapt", lambda x, y, **options: seen.append((x, y)))
    x, _ = digits()[1].tensors
    rows = torch.randint(2, (len(x), 5)).to(dtype)
    adapt_head(trunk, head, x[:40], labelled=DataLoader(TensorDataset(x, rows), 90))
    ((items, labels),) = seen
    assert items.shape == (240, 32)
    assert torch.equal(labels, torch.cat([rows.long(), torch.full((40, 5), -1)]))


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "HookContainer"])
def test_a_trainer_adapts_after_its_last_epoch(wrapped, tmp_path):
    trunk, head = parts()
    unlabelled = digits()[1].tensors[0]
    merging, epochs = ProgressiveMerging(head, epochs_per_stage=1), []
    trainer = trainer_of(trunk, head)
    end = merging.end_of_epoch_hook
    if wrapped:  # patience ends the training before its last epoch
        keeper, _, _ = logging_presets.get_record_keeper(str(tmp_path / "records"))
        container = logging_presets.get_hook_container(
            keeper, primary_metric="hamming_map", validation_split_name="val"
        )
        tester = testers.GlobalEmbeddingSpaceTester(
            dataloader_num_workers=0,
            accuracy_calculator=HammingAccuracyCalculator(include=("hamming_map",)),
            data_device=CPU,
            end_of_testing_hook=container.end_of_testing_hook,
        )
        judge = container.end_of_epoch_hook(
            tester, {"val": digits()[1]}, str(tmp_path / "models"), patience=0
        )

    def hook(trainer):
        end(trainer)
        epochs.append((trainer.epoch, *plain(head.linear)))
        return judge(trainer) and trainer.epoch < 4 if wrapped else None

    trainer.end_of_epoch_hook = hook
    adapt_when_trained(trainer, unlabelled, labelled=digits()[0])
    trainer.train(num_epochs=9 if wrapped else 2)
    assert epochs[-1][0] <= 4
    assert head.finished
    _, twin = parts()
    twin.load_state_dict(head.state_dict())
    with torch.no_grad():
        twin.linear.weight.copy_(epochs[-1][1])
        twin.linear.bias.copy_(epochs[-1][2])
    assert not torch.equal(twin.linear.weight, head.linear.weight)
    adapt_head(trunk, twin, unlabelled, labelled=digits()[0])
    torch.testing.assert_close(plain(head.linear), plain(twin.linear), rtol=0, atol=0)


def test_the_getter_of_the_trainer_counts():
    trunk, head = parts(12)
    trainer = trainer_of(trunk, head, data_and_label_getter=lambda batch: batch[::-1])
    trainer.dataset = TensorDataset(*digits()[0].tensors[::-1])
    adapt_when_trained(trainer, trainer.dataset, labelled=trainer.dataset)
    before = plain(head.linear)
    trainer.train(num_epochs=0)
    assert not torch.equal(before[0], head.linear.weight)


class Levels(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head


def test_wrong_arguments_are_refused_before_training():
    trunk, head = parts(12)
    trainer = trainer_of(trunk, head)
    x = digits()[1].tensors[0]
    with pytest.raises(TypeError, match="PML trainer, got Linear"):
        adapt_when_trained(nn.Linear(2, 2), x)
    with pytest.raises(TypeError, match="unlabelled must be a DataLoader"):
        adapt_when_trained(trainer, x.numpy())
    with pytest.raises(TypeError, match="labelled must be a DataLoader"):
        adapt_when_trained(trainer, x, labelled=[1])
    trainer.models["embedder"] = Levels(head)
    with pytest.raises(TypeError, match="embedder is a Levels"):
        adapt_when_trained(trainer, x)
    adapt_when_trained(trainer, x, head=head)
    with pytest.raises(ValueError, match="already"):
        adapt_when_trained(trainer, x, head=head)


X = torch.randn(6, 64)


@pytest.mark.parametrize(
    ("unlabelled", "labelled", "error", "message"),
    [
        (X[:, :5], None, RuntimeError, "shapes"),
        (X[:0], None, ValueError, "no items"),
        ([X], None, TypeError, "DataLoader"),
        (DataLoader([{"image": x} for x in X]), None, TypeError, "got dict"),
        (X, X, ValueError, "data alone"),
        (X, TensorDataset(X[:0], X[:0]), ValueError, "labelled holds no items"),
    ],
    ids=["width", "empty", "list", "dictionaries", "no labels", "no labelled"],
)
def test_bad_items(unlabelled, labelled, error, message):
    trunk, head = parts(12)
    with pytest.raises(error, match=message):
        adapt_head(trunk, head, unlabelled, labelled=labelled)
    assert trunk.training


def test_bad_modules():
    trunk, head = parts(12)
    with pytest.raises(ValueError, match=r"must put out \(B, 32\)"):
        adapt_head(nn.Identity(), head, X)
    with pytest.raises(TypeError, match="ProgressiveHead, got Levels"):
        adapt_head(trunk, Levels(head), X)


def work(rank, world, folder):
    with process_group(rank, world, folder):
        torch.manual_seed(rank)
        trunk, head = nn.Linear(64, 32), ProgressiveHead(32, 12)
        for each in (*trunk.parameters(), *head.parameters()):
            torch.distributed.broadcast(each.data, 0)
        x = torch.randn(80, 64)  # other items on each rank
        adapt_head(trunk, head, DataLoader(x, batch_size=16))
        sampler = DistributedSampler(x, world, rank)
        with pytest.raises(ValueError, match="DistributedSampler"):
            adapt_head(trunk, head, DataLoader(x, sampler=sampler))
        for wrong in (X[:, :5], X[:0]):  # fails on process 0, and on all
            kind = (RuntimeError, ValueError) if rank == 0 else RuntimeError
            with pytest.raises(kind):
                adapt_head(trunk, head, wrong)
        ddp = nn.parallel.DistributedDataParallel
        trainer = trainer_of(ddp(nn.Linear(64, 32)), ddp(head), head)
        adapt_when_trained(trainer, x)
        trainer.train(num_epochs=1)
        torch.save(plain(head.linear), f"{folder}/{rank}")


def test_each_process_takes_over_the_head_of_the_first(tmp_path):
    run_group(work, 2, 2, str(tmp_path))
    first, second = (torch.load(tmp_path / str(rank)) for rank in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
