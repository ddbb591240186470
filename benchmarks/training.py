"""The one training loop: trunk, batches, optimizer and schedule are everyone's."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pml_nmlayer.codes import binarize
from pml_nmlayer.label_sets import as_label_sets
from pml_nmlayer.losses import MultiLabelLoss

from .interface import Problem, Unsuited

HIDDEN = 256  # width of the trunk


def code_of(outputs: Tensor) -> dict[str, Tensor]:
    """Make the code of a hashing head."""
    return {"code": binarize(outputs)}


def sign_and_float(outputs: Tensor) -> dict[str, Tensor]:
    """Make two things of an ordinary embedding: its signs, and itself."""
    return {"sign": binarize(outputs), "float": outputs}


@dataclass
class Learner:
    """A trained method: a head and what teaches it, on top of the common trunk.

    Args:
        problem: sizes, epochs and batch size.
        head: embeds (B, HIDDEN) into real outputs; a `fold` method gives what is served.
        loss: a PML loss, called with (embeddings, labels, mined tuples).
        lr: learning rate of trunk and head.
        miner: a PML miner, or None.
        loss_lr: learning rate of the loss' own parameters, which it must have then.
        after_epoch: called with the number of finished epochs.
        encoding: makes encodings of outputs, see `Method.encode`.
    """

    problem: Problem
    head: nn.Module
    loss: nn.Module
    lr: float
    miner: nn.Module | None = None
    loss_lr: float | None = None
    after_epoch: Callable[[int], Any] | None = None
    encoding: Callable[[Tensor], dict[str, Tensor]] = code_of
    trunk: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.trunk = nn.Sequential(nn.Linear(self.problem.in_features, HIDDEN), nn.ReLU())

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Train for all epochs; the last one is what counts, there is no selection."""
        if len(features) < self.problem.batch_size:
            raise ValueError(
                f"{len(features)} training items are too few for one batch of "
                f"{self.problem.batch_size}; ask for smaller batches"
            )
        optimizers = self.optimizers()
        steps = self.problem.epochs * (len(features) // self.problem.batch_size)
        decay = self.problem.decay
        schedules = [
            torch.optim.lr_scheduler.LambdaLR(o, lambda step: decayed(step / steps, decay))
            for o in optimizers
        ]
        for epoch in range(1, self.problem.epochs + 1):
            for rows in batches(len(features), self.problem.batch_size):
                self.step(features[rows], labels[rows], optimizers)
                for schedule in schedules:
                    schedule.step()
            if self.after_epoch is not None:
                self.after_epoch(epoch)

    def optimizers(self) -> list[torch.optim.Adam]:
        """Make Adam for trunk and head, and another one for parameters of the loss."""
        parameters = [*self.trunk.parameters(), *self.head.parameters()]
        optimizers = [torch.optim.Adam(parameters, lr=self.lr)]
        if self.loss_lr is not None:
            optimizers.append(torch.optim.Adam(self.loss.parameters(), lr=self.loss_lr))
        return optimizers

    def step(
        self, features: Tensor, labels: Tensor, optimizers: list[torch.optim.Adam]
    ) -> None:
        """Learn from one batch."""
        embeddings = self.head(self.trunk(features))
        tuples = None
        if self.miner is not None:
            tuples = self.miner(embeddings, as_label_sets(labels))
        loss = self.loss(embeddings, labels, tuples)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    def encode(self, features: Tensor) -> dict[str, Tensor]:
        """Encode with the head as it is served."""
        with torch.no_grad():
            return self.encoding(self._served()(self.trunk(features)))

    def head_parameters(self) -> tuple[int, int]:
        """Count the numbers of the head while training and when served."""
        return _count(self.head), _count(self._served())

    def _served(self) -> nn.Module:
        fold = getattr(self.head, "fold", None)
        return self.head if fold is None else fold()


def for_labels(problem: Problem, loss: nn.Module) -> nn.Module:
    """Adapt a loss to several labels an item, where there are.

    Raises:
        Unsuited: it needs one class id an item.
    """
    if not problem.multi_label:
        return loss
    try:
        return MultiLabelLoss(loss)
    except ValueError as error:
        raise Unsuited(str(error)) from error


def batches(count: int, size: int) -> list[Tensor]:
    """Shuffle all items into whole batches; as in PML's trainers the rest is dropped."""
    order = torch.randperm(count)
    return list(order[: count // size * size].split(size))


def decayed(done: float, share: float) -> float:
    """Hold the learning rate at 1, then let it fall to 0 along a cosine at the end.

    Args:
        done: share of the steps that are done.
        share: share of the steps over which it falls; 1 for a cosine over the whole run.
    """
    fallen = max(done - (1 - share), 0) / share
    return 0.5 * (1 + math.cos(math.pi * fallen))


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
