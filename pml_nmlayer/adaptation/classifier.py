"""Class probabilities that can be trusted: out of fold where the labels were used."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .whitening import ClassMoments, linear_discriminants

FOLDS = 4
SHRINKAGES = (0.1, 0.4)
_JUDGED = 4000  # scores that the scale is chosen by
_SCALES = torch.logspace(-2.5, 0.7, 25, dtype=torch.float64)


def out_of_fold_scores(
    x: Tensor, classes: Tensor, *, num_classes: int, shrinkage: float, seed: int = 0
) -> Tensor:
    """Score each item by discriminants that did not see it.

    Args:
        x: (N, D) features.
        classes: (N,) class indices from 0 to C - 1.
        num_classes: C.
        shrinkage: see `linear_discriminants`.
        seed: of the folds.

    Returns:
        (N, C) float32 class scores.
    """
    generator = torch.Generator().manual_seed(seed)
    fold = torch.randperm(len(x), generator=generator) % FOLDS
    parts = []
    for k in range(FOLDS):
        part = ClassMoments.empty(num_classes, x.shape[1])
        part.update(x[fold == k], classes[fold == k])
        parts.append(part)
    total = _sum(parts)
    scores = torch.empty(len(x), num_classes)
    for k in range(FOLDS):
        weight, bias = linear_discriminants(total - parts[k], shrinkage=shrinkage)
        scores[fold == k] = F.linear(x[fold == k], weight.float(), bias.float())
    return scores


def calibrated_scale(scores: Tensor, classes: Tensor) -> tuple[float, float]:
    """Choose the factor of the scores whose probabilities are most likely.

    Args:
        scores: (N, C) class scores, out of fold.
        classes: (N,) class indices.

    Returns:
        the factor, and the mean negative log-likelihood with it.

    Example:
        >>> calibrated_scale(torch.eye(3) * 4, torch.tensor([0, 1, 2]))[0] > 1
        True
    """
    few = torch.linspace(0, len(scores) - 1, min(len(scores), _JUDGED)).long()
    scores, classes = scores[few], classes[few]
    nll = [float(F.cross_entropy(scores * float(s), classes)) for s in _SCALES]
    best = min(range(len(nll)), key=nll.__getitem__)
    return float(_SCALES[best]), nll[best]


def fit_classifier(
    x: Tensor, classes: Tensor, *, num_classes: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Fit calibrated discriminants; shrinkage is chosen out of fold.

    Args:
        x: (N, D) features of labelled items.
        classes: (N,) class indices from 0 to C - 1.
        num_classes: C >= 2.
        seed: of the folds.

    Returns:
        weight (C, D) and bias (C,) of calibrated scores, and the out-of-fold
        probabilities (N, C) of the items themselves.
    """
    best: tuple[float, float, float, Tensor] | None = None
    for shrinkage in SHRINKAGES:
        scores = out_of_fold_scores(
            x, classes, num_classes=num_classes, shrinkage=shrinkage, seed=seed
        )
        scale, nll = calibrated_scale(scores, classes)
        if best is None or nll < best[0]:
            best = nll, shrinkage, scale, scores
    assert best is not None
    _, shrinkage, scale, scores = best
    moments = ClassMoments.empty(num_classes, x.shape[1])
    moments.update(x, classes)
    weight, bias = linear_discriminants(moments, shrinkage=shrinkage)
    probabilities = (scores * scale).softmax(1)
    return (weight * scale).float(), (bias * scale).float(), probabilities


def _sum(parts: list[ClassMoments]) -> ClassMoments:
    add: Callable[[str], Tensor] = lambda name: sum(getattr(p, name) for p in parts)  # noqa: E731
    return ClassMoments(add("counts"), add("sums"), add("products"))
