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
_DEVIATIONS = 3  # standard ones above chance, from which on a classifier is believed
_ROUNDING = 1e-9


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
        if not better_than_chance(trusted.argmax(1), classes):
            return Beliefs(known)
    found = F.linear(others, weight, bias)
    share = None
    if labels.rows is None and len(others):
        share, chance = known_share(trusted, classes, found)
        known[len(own) :] = chance > SURE
    return Beliefs(known, torch.cat([trusted, found]), (weight, bias), share)


def better_than_chance(found: Tensor, classes: Tensor) -> bool:
    """Tell whether predictions hit more often than if they were dealt out at random.

    A share of the largest class would not do: where one class has most items, nothing is
    much better than to name it alone.

    Args:
        found: (N,) class indices that were predicted for held-out items.
        classes: (N,) their classes.

    Example:
        >>> classes = torch.arange(60) % 3
        >>> better_than_chance(classes, classes)
        True
        >>> better_than_chance(torch.zeros(60, dtype=torch.int64), classes)
        False
    """
    mean, deviation = hits_by_chance(found, classes)
    hits = int((found == classes).sum())
    return hits > mean and hits >= mean + _DEVIATIONS * deviation - _ROUNDING


def hits_by_chance(found: Tensor, classes: Tensor) -> tuple[float, float]:
    r"""Mean and standard deviation of the number of hits over all orders of predictions.

    Formula:  with a_c items found and b_c items of class c: μ = Σ a_c b_c / N, and
              σ² (N - 1) = Σ a_c b_c (1 - (a_c + b_c) / N) + μ².

    Args:
        found: (N,) predicted class indices.
        classes: (N,) their classes.

    Source:   sums over random orders (Hoeffding, Annals of Mathematical Statistics 1951).
              Differs: no.
    """
    size = len(classes)
    count = int(torch.cat([found, classes]).max()) + 1
    a, b = (torch.bincount(v, minlength=count).double() for v in (found, classes))
    mean = float((a * b).sum()) / size
    variance = float((a * b * (1 - (a + b) / size)).sum()) + mean**2
    return mean, (max(variance, 0.0) / max(size - 1, 1)) ** 0.5
