"""Merging in Lightning trainers: when it happens, what checkpoints hold, resuming."""

import importlib
import logging
import sys
import warnings

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from pytorch_metric_learning.losses import SupConLoss
from torch.utils.data import DataLoader

from pml_nmlayer.evaluation import HammingAccuracyCalculator
from pml_nmlayer.heads.unfinished import UnfinishedHeadWarning
from pml_nmlayer.hooks import ProgressiveMerging, WhenPlateau, lightning_callback
from pml_nmlayer.hooks.lightning_callback import ProgressiveMergingCallback
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import NMLoss
from tests.digits import digits, trunk_and_head

for package in ("lightning.pytorch", "pytorch_lightning"):
    logging.getLogger(package).setLevel(logging.ERROR)

pytestmark = [
    # advice for speed, which a small test does not follow
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    # resumed runs here save no checkpoints of their own
    pytest.mark.filterwarnings("ignore:.*Please add the following callbacks.*ModelCheck"),
    # Lightning 2.6 calls what torch 2.13 deprecates
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
]


class Parts:
    """A LightningModule of whichever package."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.head = trunk_and_head()
        self.loss = NMLoss(SupConLoss(), self.head)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.loss(self.head(self.trunk(x)), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("score", float(self.current_epoch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Module(Parts, lightning.pytorch.LightningModule):
    pass


class OtherModule(Parts, pytorch_lightning.LightningModule):
    pass


class TwoOptimizers(Module):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()

    def configure_optimizers(self):
        parts = (self.trunk, self.head)
        return [torch.optim.Adam(part.parameters(), lr=1e-2) for part in parts]


class MergeFrom:
    """A schedule: merge in every epoch whose metric is at least a threshold."""

    needs_metric = True

    def __init__(self, threshold):
        self.threshold = threshold
        self.seen = []

    def is_due(self, head, time, metric):
        self.seen.append((time, round(metric, 2)))
        return metric >= self.threshold

    def measure(self, trainer):
        raise NotImplementedError

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = list(state["seen"])


class Watch(Callback):
    """Note the code length after every batch, validation and epoch."""

    def __init__(self):
        self.batches, self.validations, self.epochs = [], [], []

    def on_train_batch_end(self, trainer, module, *args):
        self.batches.append(module.head.bits)

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            self.validations.append(module.head.bits)

    def on_train_epoch_end(self, trainer, module):
        self.epochs.append(module.head.bits)


def loader():
    return DataLoader(digits()[0], 125)  # four batches, always in the same order


def make_trainer(folder, *callbacks, package=lightning.pytorch, **kwargs):
    kwargs = {"max_epochs": 6, "num_sanity_val_steps": 0} | kwargs
    return package.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        callbacks=list(callbacks),
        **kwargs,
    )


def fit(
    folder,
    module=None,
    merging=None,
    callbacks=(),
    validate=False,
    ckpt_path=None,
    monitor=None,
    **kwargs,
):
    """Train and return the module and the code lengths on the way."""
    module = Module() if module is None else module
    options = {"epochs_per_stage": 2} if merging is None else merging
    merging = ProgressiveMerging(options.pop("head", module.head), **options)
    callback, watch = ProgressiveMergingCallback(merging, monitor=monitor), Watch()
    trainer = make_trainer(
        folder, *callbacks, callback, watch, limit_val_batches=1.0 * validate, **kwargs
    )
    trainer.fit(module, loader(), loader(), ckpt_path=ckpt_path)
    return module, watch


def codes(module, x):
    return module.head.codes(module.trunk(x))


# When it merges


@pytest.mark.parametrize("validate", [False, True])
def test_epochs(tmp_path, validate):
    _, watch = fit(tmp_path, validate=validate, num_sanity_val_steps=1)
    assert watch.epochs == [24, 12, 12, 6, 6, 6]
    # validation at the end of an epoch judges the merged code
    assert watch.validations == (watch.epochs if validate else [])


def test_the_code_retrieves(tmp_path):
    train, test = (data.tensors for data in digits())
    module = Module()

    def score():
        calculator = HammingAccuracyCalculator(include=("hamming_map",))
        pairs = (codes(module, test[0]), test[1], codes(module, train[0]), train[1])
        return calculator.get_accuracy(*pairs)["hamming_map"]

    untrained = score()
    fit(tmp_path, module, max_epochs=10)
    assert module.head.bits == 6
    assert score() > untrained + 0.15


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, [24, 24, 12, 12, 12, 6, 6, 6]),
        # two batches a step: the third step ends with the sixth batch
        ({"accumulate_grad_batches": 2}, [24] * 5 + [12] * 3),
    ],
)
def test_iterations(tmp_path, kwargs, expected):
    _, watch = fit(tmp_path, merging={"iterations_per_stage": 3}, max_epochs=2, **kwargs)
    assert watch.batches == expected


def test_several_optimizers_do_not_count_twice(tmp_path):
    merging = {"iterations_per_stage": 3}
    _, watch = fit(tmp_path, TwoOptimizers(), merging, max_epochs=2)
    assert watch.batches == [24, 24, 12, 12, 12, 6, 6, 6]


def test_a_limited_epoch_is_an_epoch_and_a_cut_one_is_not(tmp_path):
    _, watch = fit(tmp_path, limit_train_batches=2, max_epochs=2)
    assert watch.batches == [24, 24, 24, 12]
    _, watch = fit(tmp_path, max_epochs=-1, max_steps=7)  # one batch short of two epochs
    assert watch.epochs == [24, 24]


def test_an_epoch_that_the_module_ends_early(tmp_path):
    class Early(Module):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 2 else None

    _, watch = fit(tmp_path, Early(), max_epochs=2)
    assert watch.batches == [24] * 4
    assert watch.epochs == [24, 12]


def test_evaluation_alone_changes_nothing(tmp_path):
    module = Module()
    merging = ProgressiveMerging(module.head, schedule=MergeFrom(0))
    callback = ProgressiveMergingCallback(merging, monitor="score")
    before = callback.state_dict()
    make_trainer(tmp_path, callback).validate(module, loader(), verbose=False)
    assert callback.state_dict() == before
    assert module.head.stage == 0


# A metric decides


@pytest.mark.parametrize(
    ("kwargs", "seen", "epochs"),
    [
        ({}, [(1, 0), (2, 1), (3, 2), (4, 3)], [24, 24, 12, 6, 6, 6]),
        (
            {"check_val_every_n_epoch": 2},
            [(2, 1), (4, 3), (6, 5)],
            [24, 24, 24, 12, 12, 6],
        ),
        (
            {"val_check_interval": 0.5},
            [(1, 0), (2, 1), (3, 2), (4, 3)],
            [24, 24, 12, 6, 6, 6],
        ),
    ],
)
def test_the_metric_of_the_epoch_is_there(tmp_path, kwargs, seen, epochs):
    schedule = MergeFrom(2)
    kwargs |= {"monitor": "score", "validate": True, "num_sanity_val_steps": 1}
    _, watch = fit(tmp_path, merging={"schedule": schedule}, **kwargs)
    assert schedule.seen == seen
    assert watch.epochs == epochs
    if len(watch.validations) == len(epochs):  # they come before the step
        assert watch.validations == [24, *epochs[:-1]]


def test_a_metric_of_training_without_validation(tmp_path):
    schedule = MergeFrom(0)
    _, watch = fit(
        tmp_path, merging={"schedule": schedule}, monitor="train_loss", max_epochs=3
    )
    assert [epoch for epoch, _ in schedule.seen] == [1, 2]
    assert len({loss for _, loss in schedule.seen}) == 2
    assert watch.epochs == [12, 6, 6]


@pytest.mark.parametrize("kind", ["after an epoch", "after validation"])
def test_every_epoch_is_asked_once(tmp_path, kind):
    class Never(MergeFrom):
        needs_metric = False

        def is_due(self, head, time, metric):
            return super().is_due(head, time, -1.0)

    def run(**kwargs):
        schedule = Never(0)
        fit(tmp_path, merging={"schedule": schedule}, validate=True, max_epochs=3, **kwargs)
        return [epoch for epoch, _ in schedule.seen]

    assert run(callbacks=[saving(tmp_path / "run", **KINDS[kind])]) == [1, 2, 3]
    assert run(ckpt_path=tmp_path / "run" / "step=4.ckpt") == [1, 2, 3]


@pytest.mark.parametrize("validate", [False, True])
def test_a_metric_that_was_not_logged(tmp_path, validate):
    available = r"\['score', 'train_loss'\]" if validate else r"\['train_loss'\]"
    message = f"monitor='map' was not logged; available metrics: {available}"
    merging = {"schedule": MergeFrom(0)}
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, merging=merging, validate=validate, monitor="map")


# Checkpoints

KINDS = {
    "after an epoch": {},
    "after validation": {"save_on_train_epoch_end": False},
    "after the last batch": {"every_n_train_steps": 4},
}


def saving(folder, **kwargs):
    return ModelCheckpoint(folder, filename="{step}", save_top_k=-1, **kwargs)


def bits_in(folder):
    """Code length in each checkpoint, in the order of steps."""
    lengths = {}
    for path in folder.iterdir():
        step = int(path.stem.removeprefix("step="))
        state = torch.load(path, weights_only=True)["state_dict"]
        lengths[step] = (24, 12, 6)[state["head.merges.stage_count"]]
    return [lengths[step] for step in sorted(lengths)]


@pytest.mark.parametrize(
    ("kind", "validate"),
    [
        (kind, validate)
        for kind in KINDS
        for validate in (False, True)
        if validate or kind != "after validation"
    ],
)
@pytest.mark.parametrize("unit", ["epochs_per_stage", "iterations_per_stage"])
def test_resuming_from_any_checkpoint(tmp_path, kind, validate, unit):
    merging = {unit: 2 if unit == "epochs_per_stage" else 7}
    checkpoints = saving(tmp_path / "run", **KINDS[kind])
    whole, watch = fit(
        tmp_path, merging=merging, callbacks=[checkpoints], validate=validate
    )
    paths = sorted((tmp_path / "run").iterdir())
    assert bits_in(tmp_path / "run") == watch.epochs  # the merged state is in the file
    expected = whole.state_dict()
    for path in paths[::2]:
        resumed, _ = fit(tmp_path, merging=merging, validate=validate, ckpt_path=path)
        torch.testing.assert_close(resumed.state_dict(), expected, rtol=0, atol=0)


def test_resuming_counts_on_with_accumulated_gradients(tmp_path):
    def run(**kwargs):
        merging = {"iterations_per_stage": 3}
        return fit(tmp_path, merging=merging, accumulate_grad_batches=2, **kwargs)[1]

    whole = run(callbacks=[saving(tmp_path / "run")], max_epochs=3)
    resumed = run(ckpt_path=tmp_path / "run" / "step=2.ckpt", max_epochs=3)
    assert whole.batches == [24] * 5 + [12] * 6 + [6]
    assert resumed.batches == whole.batches[4:]


@pytest.mark.parametrize("kind", ["after an epoch", "after validation"])
def test_resuming_in_the_middle_of_a_plateau(tmp_path, kind):
    class Flat(Module):
        def validation_step(self, batch, batch_idx):
            self.log("score", (0.5, 0.6, 0.6, 0.5, 0.6, 0.6)[self.current_epoch])

    def run(**kwargs):
        merging = {"schedule": WhenPlateau(patience=2)}
        return fit(tmp_path, Flat(), merging, monitor="score", validate=True, **kwargs)

    whole, watch = run(callbacks=[saving(tmp_path / "run", **KINDS[kind])])
    # the best score of the first stage, in epoch 2, is two epochs old after epoch 4
    assert watch.epochs == [24, 24, 24, 12, 12, 12]
    scored = watch.epochs if kind == "after an epoch" else watch.validations
    assert bits_in(tmp_path / "run") == scored
    for path in (tmp_path / "run").iterdir():
        resumed, _ = run(ckpt_path=path)
        torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_lightning_does_not_return_to_a_validation_that_was_due(tmp_path):
    def run(**kwargs):
        schedule = MergeFrom(9)
        merging = {"schedule": schedule}
        fit(
            tmp_path,
            merging=merging,
            monitor="score",
            validate=True,
            max_epochs=3,
            **kwargs,
        )
        return [epoch for epoch, _ in schedule.seen]

    last_batches = saving(tmp_path / "run", **KINDS["after the last batch"])
    assert run(callbacks=[last_batches]) == [1, 2, 3]
    assert run(ckpt_path=tmp_path / "run" / "step=4.ckpt") == [2, 3]


def test_two_heads_have_a_callback_each(tmp_path):
    class Two(Module):
        def __init__(self):
            super().__init__()
            self.coarse = ProgressiveHead(64, (8, 4))
            self.coarse_loss = NMLoss(SupConLoss(), self.coarse)

        def training_step(self, batch, batch_idx):
            x, y = batch
            coarse = self.coarse_loss(self.coarse(self.trunk(x)), y)
            return super().training_step(batch, batch_idx) + coarse

    def run(**kwargs):
        module = Two()
        trainer = make_trainer(
            tmp_path,
            *kwargs.pop("callbacks", ()),
            *(
                ProgressiveMergingCallback(
                    ProgressiveMerging(head, iterations_per_stage=length), name=name
                )
                for name, head, length in (
                    ("fine", module.head, 5),
                    ("coarse", module.coarse, 7),
                )
            ),
            max_epochs=3,
        )
        trainer.fit(module, loader(), loader(), **kwargs)
        return module

    whole = run(callbacks=[saving(tmp_path / "run")])
    assert (whole.head.bits, whole.coarse.bits) == (6, 4)
    resumed = run(ckpt_path=tmp_path / "run" / "step=4.ckpt")
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_a_checkpoint_from_training_without_the_callback(tmp_path):
    trainer = make_trainer(tmp_path, saving(tmp_path / "run"), max_epochs=1)
    trainer.fit(Module(), loader(), loader())
    with pytest.raises(
        RuntimeError, match="goes on at step 4, but the checkpoint holds no"
    ):
        fit(tmp_path, ckpt_path=tmp_path / "run" / "step=4.ckpt")


# Packages and wrong use


@pytest.mark.parametrize("hidden", ["lightning.pytorch", "pytorch_lightning"])
@pytest.mark.parametrize("module_class", [Module, OtherModule])
def test_either_package(tmp_path, monkeypatch, hidden, module_class):
    """A callback that is built on one package runs in a trainer of the other as well."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, hidden, None)
        callback_class = importlib.reload(lightning_callback).ProgressiveMergingCallback
    assert callback_class.__bases__[0].__module__.startswith(
        {"lightning.pytorch": "pytorch_lightning"}.get(hidden, "lightning.pytorch")
    )
    package = lightning.pytorch if module_class is Module else pytorch_lightning
    module = module_class()
    merging = ProgressiveMerging(module.head, epochs_per_stage=1)
    trainer = make_trainer(tmp_path, callback_class(merging), package=package, max_epochs=2)
    trainer.fit(module, loader(), loader())
    assert module.head.finished


def test_without_lightning(monkeypatch):
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install pml-nmlayer\[lightning\]"):
        importlib.reload(lightning_callback)


def test_a_head_outside_the_module(tmp_path):
    _, stranger = trunk_and_head()
    with pytest.raises(ValueError, match="not part of Module"):
        fit(tmp_path, merging={"head": stranger, "epochs_per_stage": 1})


def test_wrong_arguments():
    _, head = trunk_and_head()
    with pytest.raises(TypeError, match="must be a ProgressiveMerging"):
        ProgressiveMergingCallback(head)
    with pytest.raises(ValueError, match="needs a metric"):
        ProgressiveMergingCallback(ProgressiveMerging(head, schedule=MergeFrom(0)))
    with pytest.raises(ValueError, match="monitor='score' has no use"):
        ProgressiveMergingCallback(
            ProgressiveMerging(head, epochs_per_stage=1), monitor="score"
        )


# What is said


class Logged(Callback):
    """Note the metrics after each epoch, when all other callbacks are through."""

    def __init__(self):
        self.bits = []

    def on_train_epoch_start(self, trainer, module):
        self.bits.append({k: v for k, v in trainer.callback_metrics.items() if "bits" in k})

    def on_train_end(self, trainer, module):
        self.on_train_epoch_start(trainer, module)


def test_bits_are_logged_after_each_epoch(tmp_path):
    logged = Logged()
    fit(tmp_path, callbacks=(logged,))
    assert logged.bits == [{}] + [{"bits": bits} for bits in (24, 12, 12, 6, 6, 6)]


def test_bits_are_logged_under_the_name_of_a_callback(tmp_path):
    module = Module()
    merging = ProgressiveMerging(module.head, epochs_per_stage=1)
    logged, callback = Logged(), ProgressiveMergingCallback(merging, name="fine")
    make_trainer(tmp_path, callback, logged, max_epochs=2).fit(module, loader(), loader())
    assert logged.bits[-1] == {"bits/fine": 6}


def test_terms_are_logged_where_stats_are_wanted(tmp_path):
    module, seen = Module(), {}
    module.loss = NMLoss(SupConLoss(), module.head, collect_stats=True)

    class Last(Callback):
        def on_train_end(self, trainer, module):
            seen.update(trainer.callback_metrics)

    fit(tmp_path, module, callbacks=(Last(),), max_epochs=4)
    assert seen["bits"] == 6
    assert seen["loss/loss_term"] == pytest.approx(float(module.loss.loss_term))
    assert seen["loss/loss_term"] > 0


@pytest.mark.filterwarnings("ignore:Found 4 module")
def test_a_loss_in_eval_mode(tmp_path):
    module = Module()
    module.loss.eval()  # and Lightning leaves it so
    with pytest.raises(RuntimeError, match=r"NMLoss .* is in eval mode"):
        fit(tmp_path, module)


def test_a_training_that_ends_too_early_says_so(tmp_path):
    with pytest.warns(UnfinishedHeadWarning, match="12 bits is left by a training"):
        fit(tmp_path, max_epochs=3)


def test_a_training_as_planned_says_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnfinishedHeadWarning)
        fit(tmp_path, max_epochs=4)


class ForgottenHead(Module):
    def configure_optimizers(self):
        return torch.optim.Adam(self.trunk.parameters(), lr=1e-2)


def test_a_head_that_no_optimizer_holds(tmp_path):
    with pytest.raises(RuntimeError, match="no optimizer holds the parameters"):
        fit(tmp_path, ForgottenHead())
