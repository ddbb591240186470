"""Losses of pytorch-metric-learning; the code is the sign of an ordinary embedding."""

from typing import Any

from pytorch_metric_learning.losses import (
    ContrastiveLoss,
    MultiSimilarityLoss,
    ProxyAnchorLoss,
    SupConLoss,
    TripletMarginLoss,
)
from pytorch_metric_learning.miners import BatchEasyHardMiner
from torch import nn

from ..interface import Method, Problem, method
from ..search import Choice, LogUniform
from ..training import HIDDEN, Learner, for_labels, sign_and_float

LR = LogUniform(1e-3, 4e-2)
SIGN_AND_FLOAT = ("sign", "float")
TEMPERATURE = Choice(0.1, 0.2, 0.5, 1.0)


def sign_of(problem: Problem, loss: nn.Module, lr: float, **more: Any) -> Method:
    """Train a linear head without activation, as PML users do."""
    loss = for_labels(problem, loss)
    head = nn.Linear(HIDDEN, problem.bits)
    return Learner(problem, head, loss, lr, encoding=sign_and_float, **more)


@method(
    "contrastive", "Contrastive", SIGN_AND_FLOAT, lr=LR, neg_margin=Choice(0.5, 1.0, 1.5)
)
def contrastive(problem: Problem, lr: float = 1e-3, neg_margin: float = 1.0) -> Method:
    return sign_of(problem, ContrastiveLoss(neg_margin=neg_margin), lr)


@method(
    "triplet",
    "TripletMargin",
    SIGN_AND_FLOAT,
    lr=LR,
    margin=Choice(0.05, 0.1, 0.2, 0.5),
    negatives=Choice("hard", "semihard"),
)
def triplet(
    problem: Problem, lr: float = 1e-3, margin: float = 0.2, negatives: str = "semihard"
) -> Method:
    miner = BatchEasyHardMiner(pos_strategy="hard", neg_strategy=negatives)
    return sign_of(problem, TripletMarginLoss(margin=margin), lr, miner=miner)


@method(
    "multi_similarity",
    "MultiSimilarity",
    SIGN_AND_FLOAT,
    lr=LR,
    beta=Choice(10, 25, 50),
    base=Choice(0.0, 0.25, 0.5, 0.75),
)
def multi_similarity(
    problem: Problem, lr: float = 1e-3, beta: float = 50, base: float = 0.5
) -> Method:
    return sign_of(problem, MultiSimilarityLoss(beta=beta, base=base), lr)


@method("supcon", "SupCon", SIGN_AND_FLOAT, lr=LR, temperature=TEMPERATURE)
def supcon(problem: Problem, lr: float = 1e-3, temperature: float = 0.1) -> Method:
    return sign_of(problem, SupConLoss(temperature=temperature), lr)


@method(
    "proxy_anchor",
    "ProxyAnchor",
    SIGN_AND_FLOAT,
    lr=LR,
    proxy_lr=LogUniform(1e-2, 1.0),
    alpha=Choice(8, 16, 32),
)
def proxy_anchor(
    problem: Problem, lr: float = 1e-3, proxy_lr: float = 1e-2, alpha: float = 32
) -> Method:
    loss = ProxyAnchorLoss(problem.num_classes, problem.bits, alpha=alpha)
    return sign_of(problem, loss, lr, loss_lr=proxy_lr)
