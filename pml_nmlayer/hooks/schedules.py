"""When a head is due for its next merge: at fixed times, or on a plateau.

A schedule is asked after every epoch (or iteration) whether the next merge is due.
What it remembers is in its state_dict.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from ..layers import ProgressiveHead
from ..runtime.process_group import as_on_first


class Schedule(Protocol):
    """What `ProgressiveMerging` needs to know; any object with this will do."""

    needs_metric: bool

    def is_due(self, head: ProgressiveHead, time: int, metric: float | None) -> bool:
        """Whether the next merge is due after `time` epochs (or iterations)."""

    def measure(self, trainer: Any) -> float | None:
        """Find the metric in a PML trainer; None if none is needed."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that later answers depend on, as plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


class FixedTimes:
    """A merge after each of the given times.

    Args:
        times: strictly rising, one a merge.
    """

    needs_metric = False

    def __init__(self, times: Sequence[int]) -> None:
        self.times = list(times)

    def is_due(self, head: ProgressiveHead, time: int, metric: float | None) -> bool:
        """Whether more times are over than merges were made."""
        return sum(each <= time for each in self.times) > head.stage

    def measure(self, trainer: Any) -> None:
        """No metric is needed."""

    def state_dict(self) -> dict[str, Any]:
        """The times: the number of merges made is in the head."""
        return {"times": self.times}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse other times, as they may lie before the present one."""
        if state["times"] != self.times:
            raise ValueError(
                f"this state belongs to merges after {state['times']}, this schedule has "
                f"{self.times}; make it with the saved times, or start anew"
            )


class WhenPlateau:
    r"""Merge when a validation metric no longer gets better.

    Formula:  merge after the epoch in which the best value of this stage is `patience`
              epochs old; a value is better if it exceeds the best one by more than
              min_delta (NaN is not better). Each stage starts with no best value, as
              values of different code lengths do not compare.

    PML's HookContainer tests and saves in one go. Chained behind it, this schedule sees the
    metric of the epoch, but the checkpoint is from before its answer: to resume exactly,
    chain a `save_checkpoint` of your own behind both.

    Args:
        patience: epochs without a better value.
        metric: finds the value in a PML trainer, such as
            `lambda trainer: hooks.get_curr_primary_metric(tester, "val")`; not needed
            where `ProgressiveMerging.step` is given the value.
        min_delta: what a value must exceed the best one by, in units of the metric.
        smaller_is_better: for a loss.
        min_epochs: a stage lasts at least so long.
        max_epochs: and at most so long; None for no bound.

    Returns:  a schedule for `ProgressiveMerging(head, schedule=...)`.
    Raises:   ValueError: patience or min_epochs < 1, min_delta < 0, max_epochs <
              min_epochs.
    Source:   this package, after torch.optim.lr_scheduler.ReduceLROnPlateau.
              Differs: a stage forgets the values of the one before.
    """

    needs_metric = True

    def __init__(
        self,
        *,
        patience: int = 3,
        metric: Callable[[Any], float] | None = None,
        min_delta: float = 0.0,
        smaller_is_better: bool = False,
        min_epochs: int = 1,
        max_epochs: int | None = None,
    ) -> None:
        _check_lengths(min_epochs, max_epochs, patience=patience)
        if min_delta < 0:
            raise ValueError(f"min_delta must be >= 0, got {min_delta}")
        self.patience = patience
        self.metric = metric
        self.min_delta = min_delta
        self.sign = -1.0 if smaller_is_better else 1.0
        self.stage = _StageClock(min_epochs, max_epochs)
        self.best = -math.inf
        self.age = 0

    def measure(self, trainer: Any) -> float:
        """Call `metric`."""
        if self.metric is None:
            raise ValueError(
                "WhenPlateau needs metric=, a function of the trainer, to work as a hook"
            )
        return float(self.metric(trainer))

    def is_due(self, head: ProgressiveHead, time: int, metric: float | None) -> bool:
        """Whether the plateau is reached; on several processes process 0 decides."""
        given = torch.tensor(metric, dtype=torch.float64, device=head.linear.weight.device)
        value = self.sign * float(as_on_first(given))
        if self.stage.tick(head, time):
            self.best, self.age = -math.inf, 0
        if value > self.best + self.min_delta:
            self.best, self.age = value, 0
        else:
            self.age += 1
        return self.stage.may_end(self.age >= self.patience)

    def state_dict(self) -> dict[str, Any]:
        """Best value, its age, and how long the stage has lasted."""
        return {"best": self.best, "age": self.age, **self.stage.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.best, self.age = state["best"], state["age"]
        self.stage.load_state_dict(state)


class _StageClock:
    """How long the present stage has lasted, and whether it may or must end."""

    def __init__(self, shortest: int, longest: int | None) -> None:
        self.shortest, self.longest = shortest, longest
        self.merges = 0
        self.start = 0
        self.lasted = 0

    def tick(self, head: ProgressiveHead, time: int) -> bool:
        """Note the time; whether it is the first time in a new stage."""
        new = head.stage != self.merges
        if new:
            self.merges, self.start = head.stage, self.start + self.lasted
        self.lasted = time - self.start
        return new

    def may_end(self, wish: bool) -> bool:
        """Whether the stage ends, if that is wished or not."""
        if self.longest is not None and self.lasted >= self.longest:
            return True
        return wish and self.lasted >= self.shortest

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {"merges": self.merges, "start": self.start, "lasted": self.lasted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.merges = state["merges"] if "merges" in state else state["changes"]  # 0.1
        self.start = state["start"]
        self.lasted = state["lasted"]


def _check_lengths(shortest: int, longest: int | None, **counts: int) -> None:
    for name, value in {**counts, "min_epochs": shortest}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if longest is not None and longest < shortest:
        raise ValueError(
            f"max_epochs must be at least min_epochs={shortest}, got {longest}"
        )
