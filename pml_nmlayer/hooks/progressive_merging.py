"""Merge a head when a stage is due, in any PML trainer or plain loop."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from ..heads.unfinished import expect_merges
from ..layers import ProgressiveHead
from .first_look import check_trainer
from .schedules import FixedTimes, Schedule


class ProgressiveMerging:
    r"""Call `head.merge_next()` at the end of each stage.

    Formula:  after epoch (or iteration) t, merges due = number of stage ends <= t; at most
              one is made at a time, so that every stage observes before it merges.

    The number of merges made is read from the head, whose state is in its state_dict. With
    fixed times a resumed run therefore goes on where it was, without any state in the hook.
    With `WhenPlateau` restore `state_dict` too (see `checkpointed`).

    Args:
        head: a `ProgressiveHead`.
        epochs_per_stage: length of each stage in epochs: a number for all, or one a merge.
        iterations_per_stage: the same in iterations (optimizer steps).
        schedule: the last epoch of each stage, counted from the start of training:
            strictly rising, one a merge; or a schedule object such as `WhenPlateau`.
            Exactly one of the three must be given.
        on_change: called with the head after each merge; `StageLR.restart`, say.

    Returns:  an object with `end_of_epoch_hook(trainer)` and
              `end_of_iteration_hook(trainer)` for PML's trainers, and `step(epoch)` for
              plain loops. Hooks return None, so they never stop a training.
    Raises:   ValueError: not exactly one schedule, lengths < 1, another number of stages
              than the head has merges, or a falling schedule.
              RuntimeError: at a hook's first call, a trainer in which the head would not be
              trained or observed.
    Source:   Fu et al., IJCAI 2019 (stages trained one after another).
              Differs: schedules that adapt are ours.

    Example:
        >>> import torch
        >>> from pml_nmlayer.layers import ProgressiveHead
        >>> head = ProgressiveHead(16, bits=(8, 4, 2))
        >>> merging = ProgressiveMerging(head, epochs_per_stage=2)
        >>> for epoch in range(1, 6):
        ...     head.observe(head(torch.randn(32, 16)), torch.arange(32) % 4)
        ...     if merging.step(epoch):
        ...         print(epoch, head.bits)
        2 4
        4 2
    """

    def __init__(
        self,
        head: ProgressiveHead,
        *,
        epochs_per_stage: int | Sequence[int] | None = None,
        iterations_per_stage: int | Sequence[int] | None = None,
        schedule: "Sequence[int] | Schedule | None" = None,
        on_change: Callable[[ProgressiveHead], Any] | None = None,
    ) -> None:
        given = [epochs_per_stage, iterations_per_stage, schedule]
        if sum(option is not None for option in given) != 1:
            raise ValueError(
                "give exactly one of epochs_per_stage, iterations_per_stage and schedule"
            )
        self.head = head
        self._trainer_checked = False
        expect_merges(head)
        self.on_change = on_change
        self.in_iterations = iterations_per_stage is not None
        if schedule is not None and not isinstance(schedule, Sequence):
            self.schedule: Schedule = schedule
            return
        if schedule is None:
            lengths = (
                epochs_per_stage if iterations_per_stage is None else iterations_per_stage
            )
            assert lengths is not None
            ends = _ends(len(head.layers), lengths)
        else:
            ends = list(schedule)
        if len(ends) != len(head.layers):
            raise ValueError(
                f"the head has {len(head.layers)} merges ({head.all_bits}), but "
                f"{len(ends)} stages are given"
            )
        if any(b <= a for a, b in zip([0, *ends], ends, strict=False)):
            raise ValueError(f"stages must end one after another, from 1 on; got {ends}")
        self.schedule = FixedTimes(ends)

    @property
    def needs_metric(self) -> bool:
        """Whether `step` must be given a metric."""
        return self.schedule.needs_metric

    def step(self, epoch: int, metric: float | None = None) -> bool:
        """Merge if it is due after `epoch`, counted from 1.

        In a torch process group every process has to make the call.

        Args:
            epoch: number of epochs done; iterations with `iterations_per_stage`.
            metric: value of the validation metric after this epoch, for `WhenPlateau`.

        Returns:
            Whether it merged.

        Raises:
            ValueError: no metric although the schedule needs one, or one that it ignores.
        """
        if self.needs_metric != (metric is not None):
            what = "needs step(epoch, metric=...)" if metric is None else "takes no metric"
            raise ValueError(f"a schedule of {type(self.schedule).__name__} {what}")
        if self.head.finished:
            return False
        if not self.schedule.is_due(self.head, epoch, metric):
            return False
        unit = "iteration" if self.in_iterations else "epoch"
        self.head.merge_next(when=f"{unit} {epoch}")
        if self.on_change is not None:
            self.on_change(self.head)
        return True

    def end_of_epoch_hook(self, trainer: Any) -> None:
        """Merge when due; for `trainer.end_of_epoch_hook`."""
        if not self.in_iterations:
            self._check(trainer)
            self.step(trainer.epoch, self.schedule.measure(trainer))

    def end_of_iteration_hook(self, trainer: Any) -> None:
        """Merge when due; for `trainer.end_of_iteration_hook`."""
        if self.in_iterations:
            self._check(trainer)
            self.step(trainer.get_global_iteration() + 1)

    def _check(self, trainer: Any) -> None:
        if not self._trainer_checked:
            check_trainer(self.head, trainer)
            self._trainer_checked = True

    def state_dict(self) -> dict[str, Any]:
        """What the head does not hold: the state of the schedule, in plain values."""
        return {
            "schedule": type(self.schedule).__name__,
            "state": self.schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: it belongs to another schedule.
        """
        own = type(self.schedule).__name__
        if state["schedule"] != own:
            raise ValueError(
                f"this state was saved with schedule {state['schedule']!r}, here it is "
                f"{own!r}; make ProgressiveMerging with the saved options"
            )
        self.schedule.load_state_dict(state["state"])


def _ends(merges: int, lengths: int | Sequence[int]) -> list[int]:
    if isinstance(lengths, int):
        lengths = [lengths] * merges
    return list(accumulate(lengths))
