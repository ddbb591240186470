"""Hashing networks that see no label, only which features are alike."""

from typing import Any

import numpy as np
import torch
from scipy.stats import beta
from torch import Tensor, nn
from torch.nn import functional as F

from pml_nmlayer.heads.bi_half import BiHalf

from ..interface import Method, Problem, method
from ..search import Choice
from ..training.learner import Learner, starting
from ..training.pictures import Pictures
from .loss_table import LR, START_SPACE

START = START_SPACE["start"]
_GRID = 10_001  # quantiles that are looked up


class WithoutLabels(Learner):
    """A head that learns from features alone: its loss is given (outputs, inputs)."""

    def fit(self, features: Tensor | Pictures, labels: Any) -> None:
        """Ignore what labels there are."""
        super().fit(features, torch.zeros(len(features), dtype=torch.long))

    def step(
        self, inputs: Tensor, labels: Tensor, optimizers: list[torch.optim.Adam]
    ) -> None:
        """Learn from one batch."""
        loss = self.loss(self.head(self.trunk(inputs)), inputs)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()


def cosines(vectors: Tensor) -> Tensor:
    """Compare all items of a batch with each other: (B, B)."""
    unit = F.normalize(vectors)
    return unit @ unit.T


class SameCosines(nn.Module):
    """Codes should be as alike as features are: mean squared difference of cosines."""

    def forward(self, codes: Tensor, inputs: Tensor) -> Tensor:
        return F.mse_loss(cosines(codes), cosines(inputs))


@method(
    "bi_half",
    "BiHalf",
    family="unsupervised",
    lr=LR,
    gamma=Choice(0.0, 1.0, 6.0, 30.0),
    start=START,
)
def bi_half(
    problem: Problem, lr: float = 1e-3, gamma: float = 6.0, start: str = "hidden"
) -> Method:
    """Split each bit in halves, and keep the cosines of the features.

    Source: Li, van Gemert, AAAI 2021, arXiv:2012.12334.  Differs: features are given.
    """
    problem = starting(problem, start)
    head = nn.Sequential(nn.Linear(problem.width, problem.bits), BiHalf(gamma))
    return WithoutLabels(problem, head, SameCosines(), lr)


class CalibratedCosines(nn.Module):
    """Codes should be alike in the order of the features, spread as a beta distribution.

    Formula:  mean over pairs of (cos(h_i, h_j) - c_ij)^2
              + w mean over items of (1 - cos(h_i, sign h_i));
              c_ij = 2 Q(p_ij) - 1, Q the quantiles of Beta(a, a), p_ij the rank of the
              cosine of the features among those of the batch, between 0 and 1.

    Args:
        shape: a of the distribution; a larger one is narrower.
        quantization_weight: w.
    """

    def __init__(self, shape: float, quantization_weight: float) -> None:
        super().__init__()
        self.quantization_weight = quantization_weight
        quantiles = 2 * beta.ppf(np.linspace(0, 1, _GRID), shape, shape) - 1
        self.quantiles: Tensor
        self.register_buffer("quantiles", torch.from_numpy(quantiles).float())

    def forward(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        pairs = ~torch.eye(len(inputs), dtype=torch.bool, device=inputs.device)
        alike = cosines(inputs)[pairs]
        rank = alike.argsort().argsort().to(outputs) / max(len(alike) - 1, 1)
        target = self.quantiles[(rank * (_GRID - 1)).round().long()]
        kept = F.mse_loss(cosines(outputs)[pairs], target)
        rounded = 1 - F.cosine_similarity(outputs, outputs.sign().detach()).mean()
        return kept + self.quantization_weight * rounded


@method(
    "sdc",
    "SDC",
    family="unsupervised",
    lr=LR,
    shape=Choice(2.0, 5.0, 10.0, 20.0),
    start=START,
)
def sdc(
    problem: Problem, lr: float = 1e-3, shape: float = 5.0, start: str = "hidden"
) -> Method:
    """Give codes the order of the features' cosines, and a spread of their own.

    Source: Ng et al., BMVC 2023, arXiv:2302.07669.  Differs: ranks are those within a
    batch.
    """
    problem = starting(problem, start)
    head = nn.Linear(problem.width, problem.bits)
    return WithoutLabels(problem, head, CalibratedCosines(shape, 0.1), lr)
