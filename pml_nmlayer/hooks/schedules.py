"""When a head is due for its next change: at fixed times, on a plateau, or once settled.

A schedule is asked after every epoch (or iteration) whether the next change, a merge or a
reopening, is due. What it remembers is in its state_dict.
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
        """Whether the next change is due after `time` epochs (or iterations)."""

    def measure(self, trainer: Any) -> float | None:
        """Find the metric in a PML trainer; None if none is needed."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that later answers depend on, as plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


class FixedTimes:
    """A change after each of the given times.

    Args:
        times: strictly rising, one a change.
    """

    needs_metric = False

    def __init__(self, times: Sequence[int]) -> None:
        self.times = list(times)

    def is_due(self, head: ProgressiveHead, time: int, metric: float | None) -> bool:
        """Whether more times are over than changes were made."""
        return sum(each <= time for each in self.times) > head.changes

    def measure(self, trainer: Any) -> None:
        """No metric is needed."""

    def state_dict(self) -> dict[str, Any]:
        """The times: the number of changes made is in the head."""
        return {"times": self.times}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse other times, as they may lie before the present one."""
        if state["times"] != self.times:
            raise ValueError(
                f"this state belongs to changes after {state['times']}, this schedule has "
                f"{self.times}; make it with the saved times, or start anew"
            )


def cycle_times(ends: Sequence[int], cycles: int) -> list[int]:
    """Spread the changes of stages with several active phases.

    A stage of n cycles is cut into 2 n - 1 parts of nearly equal length, by turns active
    and frozen: it merges after each active part, and reopens after each frozen one.

    Args:
        ends: last epoch (or iteration) of each stage.
        cycles: active phases a stage.

    Raises:
        ValueError: a stage with fewer epochs than parts.

    Example:
        >>> cycle_times([6, 9], cycles=2)
        [2, 4, 6, 7, 8, 9]
    """
    parts = 2 * cycles - 1
    times = []
    for start, end in zip([0, *ends], ends, strict=False):
        if end - start < parts:
            raise ValueError(
                f"{cycles} cycles need stages of at least {parts}, but one of {ends} goes "
                f"from {start} to {end}"
            )
        times += [start + round((end - start) * part / parts) for part in range(1, parts)]
        times.append(end)
    return times


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
        given = torch.tensor(metric, dtype=torch.float64, device=head.stage_count.device)
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


class WhenSettled:
    r"""Merge when the graph has settled: its strongest edges stay the same.

    Formula:  E_t are the K - K' strongest edges after epoch t (those that a merge would use
              if all were admissible). Merge after the epoch in which |E_t ∩ E_(t-1)| is at
              least `overlap` (K - K') for the `window`-th time in a row.

    Once `count_first` batches were seen, an epoch of fewer than `count_every_n_steps` may
    add nothing to the graph, which then looks settled: set these attributes of the scorer
    for it.

    Args:
        window: epochs in a row.
        overlap: share of the strongest edges that has to stay, in (0, 1].
        min_epochs: a stage lasts at least so long.
        max_epochs: and at most so long; None for no bound.

    Returns:  a schedule for `ProgressiveMerging(head, schedule=...)`.
    Raises:   ValueError: window or min_epochs < 1, overlap out of range, max_epochs <
              min_epochs.
    Source:   this package.  Differs: Fu et al. freeze after a fixed time.
    """

    needs_metric = False

    def __init__(
        self,
        window: int = 3,
        overlap: float = 0.9,
        min_epochs: int = 1,
        max_epochs: int | None = None,
    ) -> None:
        _check_lengths(min_epochs, max_epochs, window=window)
        if not 0 < overlap <= 1:
            raise ValueError(f"overlap must lie in (0, 1], got {overlap}")
        self.window = window
        self.overlap = overlap
        self.stage = _StageClock(min_epochs, max_epochs)
        self.edges: list[int] = []
        self.calm = 0

    def measure(self, trainer: Any) -> None:
        """No metric is needed."""

    def is_due(self, head: ProgressiveHead, time: int, metric: float | None) -> bool:
        """Whether the graph has settled."""
        if self.stage.tick(head, time):
            self.edges, self.calm = [], 0
        edges = strongest_edges(head)
        kept = len(set(edges) & set(self.edges))
        self.calm = self.calm + 1 if edges and kept >= self.overlap * len(edges) else 0
        self.edges = edges
        return self.stage.may_end(self.calm >= self.window)

    def state_dict(self) -> dict[str, Any]:
        """The last edges, for how long they stayed, and how long the stage has lasted."""
        return {"edges": self.edges, "calm": self.calm, **self.stage.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.edges, self.calm = list(state["edges"]), state["calm"]
        self.stage.load_state_dict(state)


def strongest_edges(head: ProgressiveHead) -> list[int]:
    """List the K - K' strongest edges of the present graph, edge (i, j) as i K + j.

    Args:
        head: not finished; an empty graph has no edges.
    """
    layer = head.current_layer
    if not bool(layer.graph.items > 0):
        return []
    edges, _ = layer.scorer.edges(layer.graph, layer.target_bits)
    bits = layer.in_bits
    strengths = edges.double().triu(1)
    strengths[torch.ones_like(edges, dtype=torch.bool).tril()] = -torch.inf
    order = strengths.flatten().argsort(descending=True, stable=True)
    chosen = order[: bits - layer.target_bits]
    return sorted(chosen[strengths.flatten()[chosen] > -torch.inf].tolist())


class _StageClock:
    """How long the present stage has lasted, and whether it may or must end."""

    def __init__(self, shortest: int, longest: int | None) -> None:
        self.shortest, self.longest = shortest, longest
        self.changes = 0
        self.start = 0
        self.lasted = 0

    def tick(self, head: ProgressiveHead, time: int) -> bool:
        """Note the time; whether it is the first time in a new stage."""
        new = head.changes != self.changes
        if new:
            self.changes, self.start = head.changes, self.start + self.lasted
        self.lasted = time - self.start
        return new

    def may_end(self, wish: bool) -> bool:
        """Whether the stage ends, if that is wished or not."""
        if self.longest is not None and self.lasted >= self.longest:
            return True
        return wish and self.lasted >= self.shortest

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {"changes": self.changes, "start": self.start, "lasted": self.lasted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.changes, self.start = state["changes"], state["start"]
        self.lasted = state["lasted"]


def _check_lengths(shortest: int, longest: int | None, **counts: int) -> None:
    for name, value in {**counts, "min_epochs": shortest}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if longest is not None and longest < shortest:
        raise ValueError(
            f"max_epochs must be at least min_epochs={shortest}, got {longest}"
        )
