"""Encoders from checkpoints, and what the checksum of a model sees."""

import copy
import logging
import os

import pytest
import torch
from pytorch_metric_learning import losses, testers, trainers
from pytorch_metric_learning.utils import logging_presets
from torch import nn

from pml_nmlayer.codes import binarize, pack_codes
from pml_nmlayer.evaluation import HammingAccuracyCalculator
from pml_nmlayer.hooks import ProgressiveMerging, chain_hooks
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import NMLoss
from pml_nmlayer.retrieval import HashEncoder
from pml_nmlayer.retrieval.states import checksum
from tests.digits import digits, trunk_and_head

X = torch.randn(40, 64, generator=torch.Generator().manual_seed(5))


def merged_head(**options):
    trunk, head = trunk_and_head(**options)
    head.observe(head(trunk(X)), torch.arange(40) % 4)
    head.merge_next()
    return trunk, head


def expected(trunk, head):
    return pack_codes(binarize(head.fold()(trunk(X))))


def save(folder, suffix, trunk, head):
    torch.save(trunk.state_dict(), folder / f"trunk_{suffix}.pth")
    torch.save(head.state_dict(), folder / f"embedder_{suffix}.pth")


@pytest.mark.parametrize("which", ["latest", "best"])
def test_a_folder(tmp_path, which):
    models = {}
    for suffix in ("2", "10", "best9", "best11", "best100x"):
        models[suffix] = merged_head()
        save(tmp_path, suffix, *models[suffix])
    # Killed while saving epoch 11: the trunk alone.
    torch.save(models["2"][0].state_dict(), tmp_path / "trunk_11.pth")
    torch.save(models["2"][0].state_dict(), tmp_path / "classifier_12.pth")
    encoder = HashEncoder.from_checkpoint(*trunk_and_head(), tmp_path, which=which)
    assert encoder.bits == 12
    chosen = models["10" if which == "latest" else "best11"]
    assert torch.equal(encoder.encode(X), expected(*chosen))


@pytest.mark.parametrize("name", ["embedder", "head"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_one_file_or_two(tmp_path, name, prefix):
    trunk, head = merged_head()
    states = {
        key: {prefix + part: value for part, value in module.state_dict().items()}
        for key, module in (("trunk", trunk), (name, head))
    }
    torch.save({**states, "epoch": 3}, tmp_path / "model.pt")
    for key, state in states.items():
        torch.save(state, tmp_path / key)
    for path in (
        tmp_path / "model.pt",
        str(tmp_path / "model.pt"),
        (tmp_path / "trunk", tmp_path / name),
    ):
        encoder = HashEncoder.from_checkpoint(*trunk_and_head(), path, batch_size=7)
        assert encoder.batch_size == 7
        assert torch.equal(encoder.encode(X), expected(trunk, head))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_a_hook_container_saved(tmp_path):
    logging.getLogger("PML").setLevel(logging.ERROR)
    train, test = digits()
    trunk, head = trunk_and_head()
    keeper, _, _ = logging_presets.get_record_keeper(
        str(tmp_path / "a"), str(tmp_path / "b")
    )
    hooks = logging_presets.get_hook_container(keeper, primary_metric="hamming_map")
    cpu = torch.device("cpu")
    tester = testers.GlobalEmbeddingSpaceTester(
        end_of_testing_hook=hooks.end_of_testing_hook,
        accuracy_calculator=HammingAccuracyCalculator(device=cpu),
        dataloader_num_workers=0,
        data_device=cpu,
    )
    folder = str(tmp_path / "models")
    trainer = trainers.MetricLossOnly(
        models={"trunk": trunk, "embedder": head},
        optimizers={
            "trunk_optimizer": torch.optim.Adam(trunk.parameters(), lr=1e-2),
            "embedder_optimizer": torch.optim.Adam(head.parameters(), lr=1e-2),
        },
        batch_size=64,
        loss_funcs={"metric_loss": NMLoss(losses.SupConLoss(), head)},
        dataset=train,
        data_device=cpu,
        dataloader_num_workers=0,
        end_of_epoch_hook=chain_hooks(
            ProgressiveMerging(head, epochs_per_stage=1).end_of_epoch_hook,
            hooks.end_of_epoch_hook(
                tester, {"val": test}, folder, splits_to_eval=[("val", ["val"])]
            ),
        ),
    )
    trainer.train(num_epochs=2)
    for which in ("latest", "best"):
        encoder = HashEncoder.from_checkpoint(*trunk_and_head(), folder, which=which)
        assert encoder.encode(test).shape == (200, -(-encoder.bits // 8))
    encoder = HashEncoder.from_checkpoint(*trunk_and_head(), folder)
    assert encoder.bits == head.bits == 6
    assert torch.equal(encoder.encode(X), expected(trunk.eval(), head.eval()))


class Harmful:
    def __reduce__(self):
        return print, ("this must not run",)


def write(folder, case):
    trunk, head = trunk_and_head()
    states = {"trunk": trunk.state_dict(), "embedder": head.state_dict()}
    if case == "empty folder":
        return folder
    if case == "trunk alone":
        torch.save(states["trunk"], folder / "trunk_3.pth")
        return folder
    file = folder / "model.pt"
    if case == "two heads":
        states["head"] = states["embedder"]
    elif case == "no trunk":
        del states["trunk"]
    elif case == "another trunk":
        del states["trunk"]["0.bias"]
    elif case == "a shorter head":
        states["embedder"] = ProgressiveHead(64, (12, 6)).state_dict()
    elif case == "harmful":
        states["trunk"] = Harmful()
    torch.save([1] if case == "a list" else states, file)
    if case == "truncated":
        os.truncate(file, 1000)
    return file


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("empty folder", r"no pair trunk_<epoch>.pth, embedder_<epoch>.pth; it has \[\]"),
        ("trunk alone", r"it has \['trunk_3.pth'\]"),
        ("two heads", r"one of 'embedder' and 'head', it holds \['embedder', 'head', 'tr"),
        ("no trunk", r"must hold 'trunk'"),
        ("another trunk", r"(?s)does not fit the trunk:.*0\.bias"),
        ("a shorter head", r"saved with bits: \[12, 6\], here \[24, 12, 6\]"),
        ("harmful", "not a checkpoint of tensors"),
        ("truncated", "model.pt is not a checkpoint of tensors"),
        ("a list", "must hold a dict, it holds list"),
    ],
)
def test_bad_checkpoints(tmp_path, case, message, capsys):
    path = write(tmp_path, case)
    with pytest.raises(ValueError, match=message):
        HashEncoder.from_checkpoint(*trunk_and_head(), path)
    assert "must not run" not in capsys.readouterr().out


def test_which_must_be_known(tmp_path):
    with pytest.raises(ValueError, match="'latest' or 'best', got 'last'"):
        HashEncoder.from_checkpoint(*trunk_and_head(), tmp_path, which="last")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        HashEncoder.from_checkpoint(*trunk_and_head(), tmp_path / "none.pt")


def test_the_checksum_sees_values_names_dtypes_and_classes():
    torch.manual_seed(0)
    linear, norm = nn.Linear(3, 2), nn.BatchNorm1d(2)
    models = [
        nn.Sequential(linear, norm, nn.ReLU()),
        nn.Sequential(linear, norm, nn.Tanh()),
        nn.Sequential(linear, nn.ReLU(), norm),
        copy.deepcopy(nn.Sequential(linear, norm, nn.ReLU())).half(),
    ]
    assert len({*map(checksum, models), checksum(*models[:2])}) == 5
    before = checksum(models[0])
    assert checksum(models[0].eval()) == before
    models[0][1].num_batches_tracked += 1
    assert checksum(models[0]) != before
