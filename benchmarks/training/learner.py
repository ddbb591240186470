"""The one training loop: trunk, batches, optimizer and schedule are everyone's."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from pml_nmlayer.codes import binarize
from pml_nmlayer.labels import as_label_sets
from pml_nmlayer.losses import MultiLabelLoss

from ..interface import ASYMMETRIC, Encoded, Pair, Problem, Unsuited
from .pictures import Epochs, Pictures

HIDDEN = Problem.width  # of the trunk that features have
Draw = Callable[[Tensor, int], list[Tensor]]  # (labels, batch size) -> rows by batch


def shuffled(labels: Tensor, size: int) -> list[Tensor]:
    """Draw the batches of one epoch: each item once, but for the rest."""
    return batches(len(labels), size)


def code_of(outputs: Tensor) -> dict[str, Encoded]:
    """Make the code of a hashing head."""
    return {"code": binarize(outputs), f"code{ASYMMETRIC}": Pair(outputs)}


def sign_and_float(outputs: Tensor) -> dict[str, Encoded]:
    """Make two things of an ordinary embedding: its signs, and itself."""
    return {
        "sign": binarize(outputs),
        f"sign{ASYMMETRIC}": Pair(outputs),
        "float": outputs,
    }


def starting(problem: Problem, start: str) -> Problem:
    """Say what a head stands on, where items are features.

    Args:
        problem: as the suite has it.
        start: "hidden" for a layer from scratch; "features" for the features as they are:
            the head then begins with their principal components, rotated at random.
    """
    if start == "hidden" or problem.trunk is not None:
        return problem
    return replace(problem, trunk=nn.Identity(), width=problem.in_features)


@torch.no_grad()
def start_from_components(head: nn.Module, features: Tensor) -> None:
    """Let the first linear map of a head give rotated principal components.

    Outputs have variance 1 in the mean. Where the map has more outputs than there are
    components, the others keep their start.
    """
    linear = next(each for each in head.modules() if isinstance(each, nn.Linear))
    mean = features.mean(0)
    count = min(linear.out_features, *features.shape)
    _, _, components = torch.linalg.svd(features - mean, full_matrices=False)
    rotation, _ = torch.linalg.qr(torch.randn(count, count))
    weight = rotation @ components[:count]
    weight /= ((features - mean) @ weight.T).square().mean().sqrt().clamp(min=1e-12)
    linear.weight[:count] = weight.to(linear.weight)
    linear.bias[:count] = -(weight @ mean).to(linear.bias)


@dataclass
class Learner:
    """A trained method: a head and what teaches it, on top of the common trunk.

    Args:
        problem: sizes, epochs and batch size.
        head: embeds (B, problem.width) into real outputs; a `fold` method gives what is
            served.
        loss: a PML loss, called with (embeddings, labels, mined tuples).
        lr: learning rate of trunk and head.
        miner: a PML miner, or None.
        loss_lr: learning rate of the loss' own parameters, which it must have then.
        after_epoch: called with the number of finished epochs.
        encoding: makes encodings of outputs, see `Method.encode`.
        draw: the batches of an epoch, as many as `shuffled` makes.
        lr_factor: asked at every step for what all learning rates are multiplied by.
    """

    problem: Problem
    head: nn.Module
    loss: nn.Module
    lr: float
    miner: nn.Module | None = None
    loss_lr: float | None = None
    after_epoch: Callable[[int], Any] | None = None
    encoding: Callable[[Tensor], Mapping[str, Encoded]] = code_of
    draw: Draw = shuffled
    lr_factor: Callable[[], float] = lambda: 1.0
    trunk: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.trunk = new_trunk(self.problem)
        for module in (self.trunk, self.head, self.loss, self.miner):
            if module is not None:
                module.to(self.problem.device)

    def fit(self, features: Tensor | Pictures, labels: Tensor) -> None:
        """Train: a learner has nothing else to fit."""
        self.train(features, labels)

    def train(self, features: Tensor | Pictures, labels: Tensor) -> None:
        """Train for all epochs; the last one is what counts, there is no selection."""
        if len(features) < self.problem.batch_size:
            raise ValueError(
                f"{len(features)} training items are too few for one batch of "
                f"{self.problem.batch_size}; ask for smaller batches"
            )
        if labels is None:
            raise Unsuited("it needs labels")
        if isinstance(self.trunk, nn.Identity) and isinstance(features, Tensor):
            start_from_components(self.head, features)
        optimizers = self.optimizers()
        steps = self.problem.epochs * (len(features) // self.problem.batch_size)

        def rate(step: int) -> float:
            return decayed(step / steps, self.problem.decay) * self.lr_factor()

        schedules = [torch.optim.lr_scheduler.LambdaLR(o, rate) for o in optimizers]
        targets = labels.to(self.problem.device)
        source: Tensor | Epochs = (
            features.to(self.problem.device)
            if isinstance(features, Tensor)
            else features.feed()
        )
        for epoch in range(1, self.problem.epochs + 1):
            order = self.draw(labels, self.problem.batch_size)
            for inputs, rows in one_epoch(source, order, self.problem.device):
                self.step(inputs, targets[rows], optimizers)
                for schedule in schedules:
                    schedule.step()
            if self.after_epoch is not None:
                self.after_epoch(epoch)

    def optimizers(self) -> list[torch.optim.Adam]:
        """Make Adam for trunk and head, and another one for parameters of the loss.

        It is fused: one pass over the numbers instead of ten takes a fifth off a step.
        """
        trunk_lr = self.lr * self.problem.trunk_lr_factor
        groups: list[dict[str, Any]] = [
            {"params": [*self.trunk.parameters()], "lr": trunk_lr},
            {"params": [*self.head.parameters()]},
        ]
        optimizers = [torch.optim.Adam(groups, lr=self.lr, fused=True)]
        if self.loss_lr is not None:
            own = self.loss.parameters()
            optimizers.append(torch.optim.Adam(own, lr=self.loss_lr, fused=True))
        return optimizers

    def step(
        self, inputs: Tensor, labels: Tensor, optimizers: list[torch.optim.Adam]
    ) -> None:
        """Learn from one batch."""
        embeddings = self.head(self.trunk(inputs))
        tuples = None
        if self.miner is not None:
            tuples = self.miner(embeddings, as_label_sets(labels))
        loss = self.loss(embeddings, labels, tuples)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    def encode(self, features: Tensor | Pictures) -> Mapping[str, Encoded]:
        """Encode with the head as it is served."""
        with evaluating(self.trunk, self.head):
            served = nn.Sequential(self.trunk, self._served())
            return self.encoding(outputs_of(served, features, self.problem))

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


def new_trunk(problem: Problem) -> nn.Module:
    """Make the trunk that a method trains: every method has its own."""
    if problem.trunk is not None:
        return copy.deepcopy(problem.trunk).train()
    return nn.Sequential(nn.Linear(problem.in_features, problem.width), nn.ReLU())


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode, and back into the mode that each one had."""
    before = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.train(training)


def one_epoch(
    source: Tensor | Epochs, order: list[Tensor], device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch and their row numbers, both on the device."""
    rows = torch.cat(order).to(device).split([len(some) for some in order])
    if isinstance(source, Tensor):
        yield from ((source[some], some) for some in rows)
        return
    for images, some in zip(source.epoch(order), rows, strict=True):
        yield images.to(device, non_blocking=True), some


def outputs_of(network: nn.Module, items: Tensor | Pictures, problem: Problem) -> Tensor:
    """Run a network over all items, images in batches: outputs (N, K), on the CPU."""
    inputs: Iterable[Tensor] = (
        [items] if isinstance(items, Tensor) else items.in_order(problem.batch_size)
    )
    with torch.no_grad():
        return torch.cat([network(some.to(problem.device)).cpu() for some in inputs])


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
