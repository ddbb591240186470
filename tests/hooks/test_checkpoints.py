"""A training that was stopped goes on as if it never had."""

import logging
import random

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses, samplers, testers, trainers
from pytorch_metric_learning.utils import logging_presets

from pml_nmlayer.evaluation import HammingAccuracyCalculator
from pml_nmlayer.hooks import (
    ProgressiveMerging,
    RandomState,
    StageLR,
    WhenPlateau,
    chain_hooks,
    checkpointed,
    load_checkpoint,
    save_checkpoint,
)
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import NMLoss
from pml_nmlayer.samplers import MultiLabelMPerClassSampler
from tests.digits import digits, trunk_and_head
from tests.processes import start
from tests.retrieval.killed import kill_at, was_killed

CPU = torch.device("cpu")
EPOCHS = 7
logging.getLogger("PML").setLevel(logging.ERROR)
SCHEDULES = {
    "epochs": {"epochs_per_stage": 2},
    "iterations": {"iterations_per_stage": 11},
    "uneven": {"epochs_per_stage": (3, 2)},
}


class Killed(Exception):
    """Ends a training in the middle of a step."""


class Run:
    """A training by PML's trainer and HookContainer, made anew as after a restart."""

    def __init__(self, folder, seed, schedule, **options):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  PML's samplers draw from it
        self.trunk, self.head = trunk_and_head(**options)
        train, test = digits()
        models = {"trunk": self.trunk, "embedder": self.head}
        optimizers = {
            f"{name}_optimizer": torch.optim.Adam(model.parameters(), lr=1e-2)
            for name, model in models.items()
        }
        rates = StageLR(optimizers["embedder_optimizer"], factors=(1, 0.7), periods=9)
        self.merging = ProgressiveMerging(
            self.head, on_change=rates.restart, **SCHEDULES[schedule]
        )
        keeper, _, _ = logging_presets.get_record_keeper(
            str(folder / "csv"), str(folder / "tensorboard")
        )
        self.container = logging_presets.get_hook_container(
            keeper, primary_metric="hamming_map", validation_split_name="val"
        )
        tester = testers.GlobalEmbeddingSpaceTester(
            end_of_testing_hook=self.container.end_of_testing_hook,
            accuracy_calculator=HammingAccuracyCalculator(device=CPU, k=20),
            dataloader_num_workers=0,
            data_device=CPU,
        )
        self.models_folder = str(folder / "models")
        saving = self.container.end_of_epoch_hook(
            tester,
            {"train": train, "val": test},
            self.models_folder,
            splits_to_eval=[("val", ["train"])],
        )
        self.kill_after = None
        self.trainer = trainers.MetricLossOnly(
            models=models,
            optimizers=optimizers,
            batch_size=64,
            loss_funcs={"metric_loss": NMLoss(losses.SupConLoss(), self.head)},
            dataset=train,
            sampler=samplers.MPerClassSampler(
                train.tensors[1], m=6, length_before_new_iter=len(train)
            ),
            lr_schedulers={"embedder_scheduler_by_iteration": rates},
            dataloader_num_workers=0,
            data_device=CPU,
            end_of_iteration_hook=chain_hooks(
                self.merging.end_of_iteration_hook, self.maybe_die
            ),
            end_of_epoch_hook=chain_hooks(self.merging.end_of_epoch_hook, saving),
        )
        state = RandomState(self.trainer.sampler)
        checkpointed(self.trainer, merging=self.merging, random_state=state)

    def maybe_die(self, trainer):
        if trainer.get_global_iteration() == self.kill_after:
            raise Killed

    def train(self):
        first = self.container.load_latest_saved_models(
            self.trainer, self.models_folder, CPU
        )
        self.trainer.train(start_epoch=first, num_epochs=EPOCHS)

    def outcome(self):
        x = digits()[1].tensors[0]
        state = {**self.trunk.state_dict(), **self.head.state_dict()}
        return self.head.codes(self.trunk(x)), state


@pytest.mark.parametrize(
    ("schedule", "classes"),
    [(name, 10 if name == "epochs" else None) for name in SCHEDULES],
)
def test_hook_container_goes_on_exactly_after_a_kill(tmp_path, schedule, classes):
    whole = Run(tmp_path / "whole", 0, schedule, num_classes=classes)
    whole.train()
    killed = Run(tmp_path / "killed", 0, schedule, num_classes=classes)
    killed.kill_after = 24  # in the fourth epoch: seven iterations each
    with pytest.raises(Killed):
        killed.train()
    # nothing comes from its seed
    resumed = Run(tmp_path / "killed", 99, schedule, num_classes=classes)
    resumed.train()
    codes, state = whole.outcome()
    codes_again, state_again = resumed.outcome()
    assert whole.head.finished
    assert torch.equal(codes, codes_again)
    for name, value in state.items():
        assert torch.equal(value, state_again[name]), name


def plain_loop(steps, schedule, path=None, stop_after=None, **options):
    """Train on random batches, with a checkpoint after each step; go on if there is one."""
    head = ProgressiveHead(64, (24, 12, 6), **options)
    loss = NMLoss(losses.SupConLoss(), head)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    merging = ProgressiveMerging(head, schedule=schedule())
    parts = {
        "models": {"head": head, "loss": loss},
        "optimizer": optimizer,
        "merging": merging,
        "random_state": RandomState(),
    }
    first = load_checkpoint(path, **parts)["step"] if path and path.exists() else 0
    x, y = digits()[0].tensors
    for step in range(first + 1, steps + 1):
        rows = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        value = loss(head(x[rows]), y[rows])
        value.backward()
        optimizer.step()
        merging.step(step, value.item() if merging.needs_metric else None)
        if path:
            save_checkpoint(path, **parts, step=step)
        if step == stop_after:
            return None
    return head


@pytest.mark.parametrize(
    "schedule",
    [
        lambda: (10, 20),
        lambda: WhenPlateau(patience=3, smaller_is_better=True),
        lambda: WhenPlateau(
            patience=2, smaller_is_better=True, min_epochs=5, max_epochs=15
        ),
    ],
    ids=["fixed", "plateau", "bounded"],
)
@pytest.mark.parametrize("classes", [None, 10])
def test_a_plain_loop_goes_on_exactly_from_any_step(tmp_path, schedule, classes):
    torch.manual_seed(0)
    whole = plain_loop(40, schedule, num_classes=classes)
    assert whole.finished
    for stop in (9, 10, 33):  # before a merge, at it, and at the end
        path = tmp_path / f"{stop}.pt"
        torch.manual_seed(0)
        plain_loop(40, schedule, path, stop_after=stop, num_classes=classes)
        torch.manual_seed(1)
        resumed = plain_loop(40, schedule, path, num_classes=classes)
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), name


def test_every_generator_is_restored():
    def draw():
        return (
            random.random(),
            random.gauss(0, 1),
            np.random.rand(),  # noqa: NPY002
            np.random.randn(),  # noqa: NPY002
            torch.rand(1).item(),
        )

    draw()
    state = RandomState().state_dict()
    expected = [draw() for _ in range(3)]
    RandomState().load_state_dict(state)
    assert [draw() for _ in range(3)] == expected


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("kind", ["PML's", "ours"])
def test_a_sampler_goes_on_in_the_same_order(kind, seed):
    labels = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]

    def make():
        if kind == "PML's":
            return samplers.MPerClassSampler(labels, 2, length_before_new_iter=10)
        return MultiLabelMPerClassSampler(labels, 2, length_before_new_iter=10, seed=seed)

    sampler = make()
    list(sampler)
    state = RandomState(sampler).state_dict()
    expected = [list(sampler) for _ in range(3)]
    other = make()
    list(other)
    list(other)
    RandomState(other).load_state_dict(state)
    assert [list(other) for _ in range(3)] == expected


def save_and_die(path, step):
    torch.set_num_threads(1)
    kill_at(step, ("atomic.py", "checkpoints.py"))
    save_checkpoint(path, model=ProgressiveHead(64, (24, 12, 6)), epoch=2)


def test_killed_while_saving_the_old_checkpoint_or_the_new_one_is_whole(tmp_path):
    epochs, step = [], 1
    while True:
        path = tmp_path / f"{step}.pt"
        save_checkpoint(path, model=ProgressiveHead(64, (24, 12, 6)), epoch=1)
        if not was_killed(start(save_and_die, path, step)):
            break
        content = load_checkpoint(path, model=ProgressiveHead(64, (24, 12, 6)))
        epochs.append(content["epoch"])
        step += 150
    assert epochs == sorted(epochs)
    assert epochs[0] == 1
    assert content["epoch"] == 1 or epochs[-1] == 2
    assert load_checkpoint(path, model=ProgressiveHead(64, (24, 12, 6)))["epoch"] == 2
    assert len(epochs) > 5


def head_with(**options):
    return ProgressiveHead(64, **{"bits": (24, 12, 6), **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": (24, 12, 4)}, r"bits: \[24, 12, 6\], here \[24, 12, 4\]"),
        ({"scorer": "drop_one"}, r"scorer: \"Correlation\(.*here \"DropOne\("),
        ({"activation": None}, "activation: 'tanh', here None"),
        ({"max_group": 5}, "max_group: 2, here 5"),
        ({"memory": 5}, "memory: 10000, here 5"),
        ({"batch_norm": True}, "batch_norm: False, here True"),
        ({"longer": "joint"}, "longer: 'snapshot', here 'joint'"),
        ({"num_classes": 10}, r"num_classes: None, here 10; readout: 0\.0, here 0\.6"),
    ],
)
def test_another_configuration_is_refused_and_named(tmp_path, options, message):
    save_checkpoint(tmp_path / "c.pt", head=head_with())
    other = head_with(**options)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_checkpoint(tmp_path / "c.pt", head=other)
    for name, value in other.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_constant_width_is_no_part_of_the_configuration(tmp_path):
    head = head_with()
    save_checkpoint(tmp_path / "c.pt", head=head)
    other = head_with(constant_width=True)
    load_checkpoint(tmp_path / "c.pt", head=other)
    for name, value in head.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert other.constant_width


class Trainer:
    def __init__(self):
        self.mining_funcs = {"tuple_miner": None}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda path: load_checkpoint(path, model=head_with()),
            ValueError,
            r"holds the states of \['head', 'losses'\], asked for \['model'\]",
        ),
        (
            lambda path: load_checkpoint(path, head=head_with(), losses={}),
            ValueError,
            r"losses holds the states of \['one'\], asked for \[\]",
        ),
        (
            lambda _: checkpointed(Trainer(), tuple_miner=RandomState()),
            ValueError,
            "has a 'tuple_miner' in mining_funcs already",
        ),
        (lambda _: RandomState(sampler=3), TypeError, "or None, got int"),
        (
            lambda path: save_checkpoint(path, accuracy=np.float64(0.5)),
            TypeError,
            "accuracy must have state_dict, or be a number.* got float64",
        ),
        (
            lambda path: save_checkpoint(path, models={"trunk": torch.ones(1)}),
            TypeError,
            r"models\['trunk'\] must have state_dict.* got Tensor",
        ),
        (
            lambda _: RandomState(
                samplers.MPerClassSampler([0, 1], 1, length_before_new_iter=2)
            ).load_state_dict(RandomState().state_dict()),
            ValueError,
            r"sampler of classes None without a seed, here it has \[.*0.*1",
        ),
        (lambda _: checkpointed(Trainer(), x=3), TypeError, "x must have state_dict"),
        (
            lambda _: RandomState().load_state_dict(
                {**RandomState().state_dict(), "cuda": [torch.zeros(1)] * 99}
            ),
            ValueError,
            "saved with 99 CUDA devices",
        ),
    ],
)
def test_bad_input(tmp_path, call, error, message):
    path = tmp_path / "c.pt"
    save_checkpoint(path, head=head_with(), losses={"one": torch.nn.Linear(2, 2)}, epoch=3)
    with pytest.raises(error, match=message):
        call(path)
