"""Merge a head when a stage is due, in a Lightning trainer.

Import it by its own name: Lightning is an extra, and `pml_nmlayer.hooks` does without.
"""

import importlib
import sys
from typing import Any

from ..heads.unfinished import warn_if_unfinished
from .first_look import check_mode, check_optimizers, nm_losses
from .progressive_merging import ProgressiveMerging

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def _callback_class() -> Any:
    """Take the Lightning that the user imported, else the first that is installed."""
    for name in sorted(_PACKAGES, key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(name).Callback
        except ImportError as error:
            missing = error
    raise ImportError(
        "ProgressiveMergingCallback needs Lightning: pip install pml-nmlayer[lightning]"
    ) from missing


_Callback: Any = _callback_class()


class ProgressiveMergingCallback(_Callback):
    r"""Step a `ProgressiveMerging` in `lightning.pytorch` or `pytorch_lightning`.

    Formula:  after epoch e:      merging.step(e) or merging.step(e, metrics[monitor]);
              after iteration i:  merging.step(i), if merging.in_iterations.
              Epochs count from 1, as in Lightning's current_epoch + 1. An iteration is a
              batch after which an optimizer stepped: with gradient accumulation several
              batches are one iteration, and several optimizers do not count twice.

    Without a metric the step follows the last batch of an epoch, before validation, so
    that validation scores and checkpoints are those of the merged code. With a metric
    the step follows validation, before a ModelCheckpoint saves at the end of the epoch;
    the score of that checkpoint is then the one from before the merge. An epoch that was
    cut short by max_steps makes no step.

    The code length is logged as "bits" at the end of each epoch, or as "bits/NAME" with a
    name of your own. So are the last values of the terms of an `NMLoss` that collects
    statistics (`collect_stats`). A training that ends before the last merge ends with a
    warning.

    Args:
        merging: a `ProgressiveMerging`, whose head is part of the LightningModule.
        monitor: name of a metric that was logged, for schedules that need one. In epochs
            without validation no step is made, unless there is no validation at all.
        name: tells the states of several such callbacks in one checkpoint apart.

    Returns:  a Lightning callback. Its state holds that of the merging, so that
              `trainer.fit(..., ckpt_path=...)` goes on as if never stopped.
    Raises:   TypeError: merging is something else.
              ValueError: a monitor is missing or superfluous; the head is not part of the
              module; the metric was not logged (the message lists those that were).
              RuntimeError: a checkpoint from training without this callback; no optimizer
              holds the head, or its `NMLoss` is in eval mode.
              ImportError: on import of this module, if Lightning is not installed.
    Source:   Lightning 2, order of hooks.  Differs: no.

    Example:
        >>> from pml_nmlayer.hooks import ProgressiveMerging
        >>> from pml_nmlayer.layers import ProgressiveHead
        >>> head = ProgressiveHead(16, bits=(8, 4))
        >>> merging = ProgressiveMerging(head, epochs_per_stage=2)
        >>> callback = ProgressiveMergingCallback(merging)  # Trainer(callbacks=[callback])
    """

    def __init__(
        self,
        merging: ProgressiveMerging,
        *,
        monitor: str | None = None,
        name: str = "merging",
    ) -> None:
        if not isinstance(merging, ProgressiveMerging):
            raise TypeError(
                "merging must be a ProgressiveMerging (with the head and a schedule), got "
                f"{type(merging).__name__}"
            )
        if merging.needs_metric and monitor is None:
            raise ValueError(
                "the schedule needs a metric: give monitor, the name of a logged metric"
            )
        if monitor is not None and not merging.needs_metric:
            raise ValueError(
                f"the schedule takes no metric, so monitor={monitor!r} has no use: leave "
                "it out"
            )
        self.merging = merging
        self.monitor = monitor
        self.name = name
        self._started = False
        self._epoch = 0  # the last one that was stepped
        self._iteration = 0
        self._global_step = 0
        # Of the validation in this epoch. Kept, since a checkpoint made between validation
        # and the end of the epoch is resumed at that end, without any metrics.
        self._validated = False
        self._metric: float | None = None

    @property
    def state_key(self) -> str:
        """Key of this callback's state in a checkpoint."""
        return f"ProgressiveMergingCallback({self.name})"

    def state_dict(self) -> dict[str, Any]:
        """State of the merging, and where in the training it is."""
        return {
            "merging": self.merging.state_dict(),
            "epoch": self._epoch,
            "iteration": self._iteration,
            "global_step": self._global_step,
            "validated": self._validated,
            "metric": self._metric,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.merging.load_state_dict(state_dict["merging"])
        self._epoch = state_dict["epoch"]
        self._iteration = state_dict["iteration"]
        self._global_step = state_dict["global_step"]
        self._validated = state_dict["validated"]
        self._metric = state_dict["metric"]
        self._started = True

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuse a module or a checkpoint with which merging could not work."""
        if not any(module is self.merging.head for module in pl_module.modules()):
            raise ValueError(
                f"the head to be merged is not part of {type(pl_module).__name__}, so it "
                "would neither be trained nor saved; make it an attribute of the module"
            )
        if trainer.global_step > 0 and not self._started:
            raise RuntimeError(
                f"training goes on at step {trainer.global_step}, but the checkpoint holds "
                f"no state for {self.state_key}: it was trained without this callback or "
                "under another name. To merge a model that is trained already, load its "
                "weights and begin a new fit without ckpt_path"
            )
        check_optimizers(self.merging.head, trainer.optimizers, pl_module)
        if not self.merging.head.finished:
            check_mode([*nm_losses(self.merging.head, pl_module).values()])
        self._started = True

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Say if merges are still to come."""
        if not trainer.interrupted:
            warn_if_unfinished(self.merging.head, "left by a training that ended")

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count an iteration; step if the schedule is one of iterations."""
        if trainer.global_step != self._global_step:  # else gradients are accumulated
            self._global_step = trainer.global_step
            self._iteration += 1
            if self.merging.in_iterations:
                self.merging.step(self._iteration)
        if not self.merging.needs_metric:
            self._end_epoch(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Remember the metric of a validation within training."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._validated = True
            self._metric = self._logged(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Step with the metric, or where the epoch ended without a last batch."""
        if self._validated or not (self.merging.needs_metric and trainer.enable_validation):
            self._end_epoch(trainer)
        self._validated, self._metric = False, None
        self._log(pl_module)

    def _log(self, pl_module: Any) -> None:
        head = self.merging.head
        values = {"bits" if self.name == "merging" else f"bits/{self.name}": head.bits}
        for place, loss in nm_losses(head, pl_module).items():
            terms = getattr(loss, "_record_these_stats", [])
            values |= {f"{place}/{term}": getattr(loss, term) for term in terms}
        for name, value in values.items():
            pl_module.log(name, float(value), sync_dist=True)

    def _end_epoch(self, trainer: Any) -> None:
        epoch = trainer.current_epoch + 1
        if self.merging.in_iterations or not trainer.is_last_batch or epoch == self._epoch:
            return
        if self.merging.needs_metric:
            self.merging.step(epoch, self._metric_of_epoch(trainer))
        else:
            self.merging.step(epoch)
        self._epoch = epoch

    def _metric_of_epoch(self, trainer: Any) -> float:
        logged = self._logged(trainer)
        metric = self._metric if logged is None else logged
        if metric is None:
            raise ValueError(
                f"monitor={self.monitor!r} was not logged; available metrics: "
                f"{sorted(trainer.callback_metrics) or 'none'}"
            )
        return metric

    def _logged(self, trainer: Any) -> float | None:
        value = trainer.callback_metrics.get(self.monitor)
        return None if value is None else float(value)
