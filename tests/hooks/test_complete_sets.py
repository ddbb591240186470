"""What HookContainer saves is one set: a kill at any file leaves the last complete one."""

import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pytorch_metric_learning.utils.logging_presets import HookContainer
from torch import nn

from pml_nmlayer.hooks import RandomState, checkpointed


class Killed(BaseException):
    """In the place of SIGKILL: nothing of ours catches it."""


class Counter:
    def __init__(self, value):
        self.value = value

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


def trainer(epoch):
    """Objects of which each says which epoch it is from."""
    models = {"trunk": nn.Linear(2, 2), "embedder": nn.DataParallel(nn.Linear(2, 2))}
    for module in models.values():
        nn.init.constant_(next(module.parameters()), epoch)
    made = SimpleNamespace(
        models=models,
        optimizers={
            "trunk_optimizer": torch.optim.SGD(models["trunk"].parameters(), epoch)
        },
        lr_schedulers={},
        loss_funcs={"metric_loss": nn.BatchNorm1d(2)},
        mining_funcs={},
    )
    nn.init.constant_(made.loss_funcs["metric_loss"].weight, epoch)
    checkpointed(made, merging=Counter(epoch), random_state=RandomState())
    return made


def epochs(made):
    models = [next(m.parameters()).unique().item() for m in made.models.values()]
    rate = made.optimizers["trunk_optimizer"].param_groups[0]["lr"]
    loss = made.loss_funcs["metric_loss"].weight.unique().item()
    return {*models, float(rate), loss, float(made.mining_funcs["merging"].value)}


CONTAINER = HookContainer(None)


def save(folder, epoch):
    CONTAINER.save_models(trainer(epoch), str(folder), epoch, epoch - 1)


def load(folder, **options):
    fresh = trainer(99)
    after = CONTAINER.load_latest_saved_models(fresh, str(folder), **options)
    return after, epochs(fresh)


def test_a_set_comes_back_and_the_one_before_goes(tmp_path):
    assert load(tmp_path) == (1, {99.0})
    for epoch in (1, 2, 3):
        save(tmp_path, epoch)
        assert load(tmp_path) == (epoch + 1, {float(epoch)})
        assert len(list(tmp_path.iterdir())) == 7
    CONTAINER.save_models(trainer(2), str(tmp_path), "best2")
    assert load(tmp_path, best=True) == (3, {2.0})
    assert load(tmp_path) == (4, {3.0})


@pytest.mark.parametrize("how", ["before", "after"])
def test_killed_at_any_file(tmp_path, monkeypatch, how, caplog):
    """Before or after each file is renamed or removed."""
    caplog.set_level(logging.WARNING, logger="PML")
    found = []
    for step in range(1, 100):
        folder = tmp_path / str(step)
        folder.mkdir()
        save(folder, 1)
        left = step

        def dying(work):
            def wrapped(*args, **kwargs):
                nonlocal left
                left -= 1
                if how == "before" and left == 0:
                    raise Killed
                result = work(*args, **kwargs)
                if left == 0:
                    raise Killed
                return result

            return wrapped

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", dying(os.replace))
            patch.setattr(Path, "unlink", dying(Path.unlink))
            try:
                save(folder, 2)
            except Killed:
                pass
            else:
                break
        after, values = load(folder)
        assert values == {float(after - 1)}
        found.append(after - 1)
    assert found == sorted(found)
    assert {1, 2} == set(found)
    assert len(found) > 12
    assert "is not complete and is left out: epoch 2: " in caplog.text


@pytest.mark.parametrize("name", ["embedder", "trunk_optimizer", "merging"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_nothing_complete_is_refused_and_named(tmp_path, name, damage):
    save(tmp_path, 4)
    file = tmp_path / f"{name}_4.pth"
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(content[:-200])
    else:
        content[content.index(b"\x80\x02") + 3] ^= 1  # in the pickle
        file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"no complete save to go on from.*{name}"):
        load(tmp_path)


def test_what_version_0_1_0_saved_still_loads(tmp_path):
    """By PML's own method, without a list of files."""
    old = trainer(5)
    del old._saves_complete_sets
    CONTAINER.save_models(old, str(tmp_path), 5, 4)
    assert not list(tmp_path.glob("complete_*"))
    assert load(tmp_path) == (6, {5.0})
    (tmp_path / "metric_loss_5.pth").unlink()  # a mixture, were it loaded
    with pytest.raises(ValueError, match=r"metric_loss_5.pth is missing"):
        load(tmp_path)


def test_other_trainers_are_saved_as_before(tmp_path):
    logging.getLogger("PML").setLevel(logging.ERROR)
    plain = trainer(5)
    del plain._saves_complete_sets
    CONTAINER.save_models(plain, str(tmp_path), 1)
    (tmp_path / "metric_loss_1.pth").unlink()
    fresh = trainer(99)
    fresh.models["embedder"] = fresh.models["embedder"].module  # PML loads no wrapped one
    del fresh._saves_complete_sets
    assert CONTAINER.load_latest_saved_models(fresh, str(tmp_path)) == 2
    assert epochs(fresh) == {5.0, 99.0}


def test_nothing_is_saved_where_the_container_saves_nothing(tmp_path):
    container = HookContainer(None, save_models=False)
    container.save_models(trainer(1), str(tmp_path), 1)
    assert not list(tmp_path.iterdir())
