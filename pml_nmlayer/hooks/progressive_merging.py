"""Merge a head when a stage is due, in any PML trainer or plain loop."""

from collections.abc import Sequence
from typing import Any


class ProgressiveMerging:
    r"""Call `head.merge_next()` at the end of each stage.

    Formula:  after epoch (or iteration) t, merges due = number of stage ends <= t; at most
              one merge is made at a time, so that every stage observes before it merges.

    The number of merges done is read from the head, whose state is in its state_dict.
    A resumed run therefore goes on where it was, without any state in the hook.

    Args:
        head: a `ProgressiveHead`.
        epochs_per_stage: length of each stage in epochs: a number for all, or one a merge.
        iterations_per_stage: the same in iterations (optimizer steps).
        schedule: the last epoch of each stage, counted from the start of training:
            strictly rising, one a merge. Exactly one of the three must be given.

    Returns:  an object with `end_of_epoch_hook(trainer)` and
              `end_of_iteration_hook(trainer)` for PML's trainers, and `step(epoch)` for
              plain loops. Hooks return None, so they never stop a training.
    Raises:   ValueError: not exactly one schedule, lengths < 1, another number of stages
              than the head has merges, or a falling schedule.
    Source:   Fu et al., IJCAI 2019 (stages trained one after another).  Differs: no.

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
        head: Any,
        epochs_per_stage: int | Sequence[int] | None = None,
        iterations_per_stage: int | Sequence[int] | None = None,
        schedule: Sequence[int] | None = None,
    ) -> None:
        given = [epochs_per_stage, iterations_per_stage, schedule]
        if sum(option is not None for option in given) != 1:
            raise ValueError(
                "give exactly one of epochs_per_stage, iterations_per_stage and schedule"
            )
        self.head = head
        merges = len(head.layers)
        if schedule is not None:
            ends = list(schedule)
        else:
            lengths = next(option for option in given if option is not None)
            lengths = [lengths] * merges if isinstance(lengths, int) else list(lengths)
            ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
        if len(ends) != merges:
            raise ValueError(
                f"the head has {merges} merges ({head.all_bits}), but {len(ends)} stages "
                "are given"
            )
        if any(b <= a for a, b in zip([0, *ends], ends, strict=False)):
            raise ValueError(f"stages must end one after another, from 1 on; got {ends}")
        self.ends = ends
        self.in_iterations = iterations_per_stage is not None

    def step(self, epoch: int) -> bool:
        """Merge if a stage is due after `epoch` (or iteration), counted from 1.

        Args:
            epoch: number of epochs done; iterations with `iterations_per_stage`.

        Returns:
            Whether a merge was made.
        """
        due = sum(end <= epoch for end in self.ends)
        if self.head.stage >= due:
            return False
        self.head.merge_next()
        return True

    def end_of_epoch_hook(self, trainer: Any) -> None:
        """Merge when due; for `trainer.end_of_epoch_hook`."""
        if not self.in_iterations:
            self.step(trainer.epoch)

    def end_of_iteration_hook(self, trainer: Any) -> None:
        """Merge when due; for `trainer.end_of_iteration_hook`."""
        if self.in_iterations:
            self.step(trainer.get_global_iteration() + 1)
