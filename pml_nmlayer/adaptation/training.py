"""Training of a head on mini-batches."""

import torch
from torch import Tensor

from .head import AnchorHead
from .objective import neighbour_distribution_loss
from .progress import shown

STEPS = 300
BATCH_SIZE = 256
LEARNING_RATE = 0.01
_WORDS = 3.0  # codewords and anchors learn this much faster than the linear map


def train_head(
    head: AnchorHead,
    z: Tensor,
    probabilities: Tensor | None,
    teacher: Tensor,
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: bool = False,
) -> None:
    """Train a head so that its codes rank items as the teacher does.

    Args:
        head: changed in place.
        z: (N, D) features.
        probabilities: (N, C) class probabilities, or None.
        teacher: (N, E) embeddings of unit length.
        steps: of Adam, with one cycle of the learning rate; 0 for none.
        seed: of the batches.
        progress: show a bar.
    """
    if len(z) < 2 or steps == 0:
        return
    words = [p for name, p in head.named_parameters() if name not in ("weight", "bias")]
    rates = [LEARNING_RATE, _WORDS * LEARNING_RATE]
    optimizer = torch.optim.Adam(
        [{"params": [head.weight, head.bias]}, {"params": words}], LEARNING_RATE
    )
    rising = 0.1 if steps != 10 else 0.11  # torch divides by 0.1 * steps - 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=steps, pct_start=rising
    )
    generator = torch.Generator().manual_seed(seed)
    size = min(BATCH_SIZE, len(z))
    for _ in shown(range(steps), "learning codes", progress):
        rows = torch.randperm(len(z), generator=generator)[:size]
        known = None if probabilities is None else probabilities[rows]
        loss = neighbour_distribution_loss(head(z[rows], known), teacher[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
