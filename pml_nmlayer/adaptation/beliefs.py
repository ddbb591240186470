"""What labels say of labelled and of unlabelled items."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .classifier import FOLDS, Linear, fit_classifier
from .multilabel import fit_label_probabilities
from .novelty import known_share
from .rows import Labels

SURE = 0.95  # a greater chance that its class is known counts as certainty
_SPREADS = 3  # standard deviations above guessing, from which on a classifier is believed


@dataclass
class Beliefs:
    """What labels say of labelled and of unlabelled items, in this order.

    Args:
        known: (L + U,) whether an item's class has labels, as far as that is certain.
        scores: (L + U, C), out of fold for labelled items; None for too few labels.
        classifier: weight and bias that make them of features, or None.
        share: of unlabelled items whose class has labels; None if nothing tells.
    """

    known: Tensor
    scores: Tensor | None = None
    classifier: Linear | None = None
    share: float | None = None


def read_beliefs(
    own: Tensor, others: Tensor, labels: Labels, labelled: Tensor, *, seed: int
) -> Beliefs:
    """Fit a classifier or label probabilities, if there are enough labelled items.

    Args:
        own: (L, D) features of labelled items.
        others: (U, D) features of unlabelled ones.
        labels: of all items.
        labelled: (L,) which of these the labelled ones are.
        seed: of the folds.
    """
    known = torch.arange(len(own) + len(others)) < len(own)
    count, classes = len(labels.names), labels.classes[labelled]
    if labels.rows is not None:
        if len(own) < 2 * FOLDS:
            return Beliefs(known)
        weight, bias, trusted = fit_label_probabilities(
            own, labels.rows[labelled], seed=seed
        )
    elif count < 2 or len(own) <= count:
        return Beliefs(known)
    else:
        weight, bias, trusted = fit_classifier(own, classes, num_classes=count, seed=seed)
        if not _better_than_guessing(trusted, classes):
            return Beliefs(known)
    found = F.linear(others, weight, bias)
    share = None
    if labels.rows is None and len(others):
        share, chance = known_share(trusted, classes, found)
        known[len(own) :] = chance > SURE
    return Beliefs(known, torch.cat([trusted, found]), (weight, bias), share)


def _better_than_guessing(trusted: Tensor, classes: Tensor) -> bool:
    """Whether held-out items get their class more often than if all got the largest one."""
    count = len(classes)
    guessed = float(torch.bincount(classes).max()) / count
    spread = (guessed * (1 - guessed) / count) ** 0.5
    found = float((trusted.argmax(1) == classes).float().mean())
    return found > guessed + _SPREADS * spread
