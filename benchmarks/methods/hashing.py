"""Hashing heads of this package: direct to K bits, or merged down from a longer code."""

from pytorch_metric_learning.losses import SupConLoss
from torch import nn

from pml_nmlayer.hooks import ProgressiveMerging
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import DPSHLoss, NMLoss

from ..interface import Method, Problem, method
from ..search import Choice
from ..training import HIDDEN, Learner, for_labels
from .metric_learning import LR, TEMPERATURE

QUANTIZATION = Choice(0.0, 0.01, 0.03, 0.1)
# Where chains begin. On validation splits of other seeds SupCon gained nothing from 96 bits
# and DPSH lost: θ grows with the length, and with it what a step does to θ.
LONGEST = 48


def direct(problem: Problem, loss: nn.Module, lr: float) -> Method:
    """Train a head that has its final width from the start."""
    head = ProgressiveHead(HIDDEN, bits=(problem.bits,))
    return Learner(problem, head, for_labels(problem, loss), lr)


def merged(
    problem: Problem, loss: nn.Module, lr: float, scorer: str, longest: int
) -> Method:
    """Train a head that is halved until it has the wanted width.

    Args:
        problem: with the wanted width K.
        loss: the base loss.
        lr: learning rate.
        scorer: by name.
        longest: see `chain`.
    """
    bits = chain(problem.bits, longest)
    head = ProgressiveHead(HIDDEN, bits=bits, scorer=scorer)
    merges = len(bits) - 1
    schedule = ProgressiveMerging(head, epochs_per_stage=epochs_per_stage(problem, merges))
    observed = NMLoss(for_labels(problem, loss), head)
    return Learner(problem, head, observed, lr, after_epoch=schedule.step)


def chain(bits: int, longest: int) -> tuple[int, ...]:
    """Double the length as often as it stays within `longest`, and at least once."""
    doublings = max((longest // bits).bit_length() - 1, 1)
    return tuple(bits * 2**i for i in range(doublings, -1, -1))


def epochs_per_stage(problem: Problem, merges: int) -> int:
    """Share 60 % of the epochs among the active stages; 40 % follow the last merge."""
    length = max(round(0.6 * problem.epochs / merges), 1)
    if merges * length > problem.epochs:
        raise ValueError(f"{problem.epochs} epochs are too few for {merges} merges")
    return length


@method("dpsh", "DPSH direct", lr=LR, quantization_weight=QUANTIZATION)
def dpsh(problem: Problem, lr: float = 1e-3, quantization_weight: float = 0.1) -> Method:
    return direct(problem, DPSHLoss(quantization_weight=quantization_weight), lr)


@method("dpsh_nm", "DPSH + NMLayer", lr=LR, quantization_weight=QUANTIZATION)
def dpsh_nm(
    problem: Problem,
    lr: float = 1e-3,
    quantization_weight: float = 0.1,
    scorer: str = "correlation",
    longest: int = LONGEST,
) -> Method:
    loss = DPSHLoss(quantization_weight=quantization_weight)
    return merged(problem, loss, lr, scorer, longest)


@method("supcon_tanh", "SupCon direct (tanh head)", lr=LR, temperature=TEMPERATURE)
def supcon_tanh(problem: Problem, lr: float = 1e-3, temperature: float = 0.1) -> Method:
    return direct(problem, SupConLoss(temperature=temperature), lr)


@method("supcon_nm", "SupCon + NMLayer", lr=LR, temperature=TEMPERATURE)
def supcon_nm(
    problem: Problem,
    lr: float = 1e-3,
    temperature: float = 0.1,
    scorer: str = "correlation",
    longest: int = LONGEST,
) -> Method:
    return merged(problem, SupConLoss(temperature=temperature), lr, scorer, longest)
