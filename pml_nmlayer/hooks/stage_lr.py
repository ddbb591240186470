"""A learning rate that starts again with every stage."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class StageLR(LRScheduler):
    r"""Learning rate by stage: a factor for each, and a cosine within it.

    Formula:  lr = base_lr f_s c(t / T_s),  c(x) = e + (1 - e) ½ (1 + cos(π min(x, 1))),
              with s the number of merges done, t the steps since the last change of the
              head, f_s the factor, T_s the period of the stage, e the end factor. Without a
              period c = 1.

    Step it as any scheduler of torch, by epoch or by iteration, and let
    `ProgressiveMerging` restart it by on_change=scheduler.restart.

    Args:
        optimizer: whose groups are scheduled.
        factors: f, a number for all stages or one each; the last one holds for all later
            stages.
        periods: T in steps of this scheduler, likewise; None, or a None in the sequence,
            keeps the rate constant.
        end_factor: e in [0, 1].

    Returns:  a torch.optim.lr_scheduler.LRScheduler; its state_dict holds stage and t.
    Raises:   ValueError: factors <= 0, periods < 1, an empty sequence, or e out of range.
    Source:   this package, after Loshchilov and Hutter (SGDR), arXiv:1608.03983.
              Differs: restarts follow the stages; the rate stays low when a period is over.

    Example:
        >>> from pml_nmlayer.hooks import ProgressiveMerging
        >>> from pml_nmlayer.layers import ProgressiveHead
        >>> head = ProgressiveHead(16, bits=(8, 4))
        >>> optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
        >>> scheduler = StageLR(optimizer, factors=(1, 0.5), periods=2)
        >>> merging = ProgressiveMerging(
        ...     head, epochs_per_stage=2, on_change=scheduler.restart
        ... )
        >>> for epoch in range(1, 4):
        ...     head.observe(head(torch.randn(32, 16)), torch.arange(32) % 4)
        ...     optimizer.step()
        ...     scheduler.step()
        ...     _ = merging.step(epoch)
        ...     print(scheduler.get_last_lr())
        [0.05]
        [0.05]
        [0.025]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        factors: float | Sequence[float] = 1.0,
        periods: int | Sequence[int | None] | None = None,
        end_factor: float = 0.0,
    ) -> None:
        self.factors = [factors] if isinstance(factors, (int, float)) else list(factors)
        self.periods = (
            [periods] if periods is None or isinstance(periods, int) else list(periods)
        )
        if not self.factors or any(not f > 0 for f in self.factors):
            raise ValueError(f"factors must be positive, got {factors}")
        if not self.periods or any(t is not None and t < 1 for t in self.periods):
            raise ValueError(f"periods must be at least 1 or None, got {periods}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"end_factor must lie in [0, 1], got {end_factor}")
        self.end_factor = end_factor
        self.stage = 0
        self.start = 0
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """Compute the rate of each group; called by `step`."""
        factor = self.factors[min(self.stage, len(self.factors) - 1)]
        period = self.periods[min(self.stage, len(self.periods) - 1)]
        if period is not None:
            share = min((self.last_epoch - self.start) / period, 1.0)
            cosine = 0.5 * (1 + math.cos(math.pi * share))
            factor *= self.end_factor + (1 - self.end_factor) * cosine
        return [base * factor for base in self.base_lrs]

    def restart(self, head: Any) -> None:
        """Begin the stage in which the head is, at once.

        Args:
            head: a `ProgressiveHead`.
        """
        self.stage, self.start = head.stage, self.last_epoch
        rates = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._last_lr = rates
