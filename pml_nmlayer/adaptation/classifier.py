"""Class probabilities that can be trusted: out of fold where the labels were used."""

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from .whitening import ClassMoments, linear_discriminants

FOLDS = 4
SHRINKAGES = (0.1, 0.4)  # of linear discriminants
STRENGTH = 12.0  # C of logistic regression, for features of mean length 1
MOST_WORK = 1e10  # items times features times classes: half a minute a fit on one core
_ITERATIONS = 20  # with more, held-out items become less likely
_JUDGED = 4000  # scores that the scale is chosen by
_SCALES = torch.logspace(-2.5, 0.7, 25, dtype=torch.float64)
_NEVER = -1e4  # score of a class without items

Linear = tuple[Tensor, Tensor]  # weight and bias


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
    """Fit the classifier that predicts held-out items best, and calibrate it.

    Linear discriminants and a logistic regression compete. With very many items, features
    and classes, discriminants stay alone: they take one pass.

    Args:
        x: (N, D) features of labelled items, of mean length 1.
        classes: (N,) class indices from 0 to C - 1.
        num_classes: C >= 2.
        seed: of the folds.

    Returns:
        weight (C, D) and bias (C,) of calibrated scores, and the out-of-fold scores
        (N, C) of the items themselves; a softmax makes probabilities of them.
    """
    generator = torch.Generator().manual_seed(seed)
    fold = torch.randperm(len(x), generator=generator) % FOLDS
    fits = _candidates(len(x) * x.shape[1] * num_classes, num_classes)

    def held_out(fit: Callable[..., Linear], k: int) -> Tensor:
        weight, bias = fit(x[fold != k], classes[fold != k])
        return F.linear(x[fold == k], weight, bias)

    first = [held_out(fit, 0) for fit in fits]
    losses = [calibrated_scale(scores, classes[fold == 0])[1] for scores in first]
    best = min(range(len(fits)), key=losses.__getitem__)
    scores = x.new_empty(len(x), num_classes)
    scores[fold == 0] = first[best]
    for k in range(1, FOLDS):
        scores[fold == k] = held_out(fits[best], k)
    scale, _ = calibrated_scale(scores, classes)
    weight, bias = fits[best](x, classes)
    return weight * scale, bias * scale, scores * scale


def _candidates(work: int, num_classes: int) -> list[Callable[..., Linear]]:
    simple: list[Callable[..., Linear]] = [
        partial(discriminants, num_classes=num_classes, shrinkage=s) for s in SHRINKAGES
    ]
    if work > MOST_WORK:
        return simple
    regression = partial(logistic_regression, num_classes=num_classes, strength=STRENGTH)
    return [*simple, regression]


def discriminants(
    x: Tensor, classes: Tensor, *, num_classes: int, shrinkage: float
) -> Linear:
    """Fit linear discriminants to items.

    Args:
        x: (N, D) features.
        classes: (N,) class indices from 0 to C - 1.
        num_classes: C.
        shrinkage: see `linear_discriminants`.

    Returns:
        weight (C, D) and bias (C,) of the class scores, float32.
    """
    moments = ClassMoments.empty(num_classes, x.shape[1])
    moments.update(x, classes)
    weight, bias = linear_discriminants(moments, shrinkage=shrinkage)
    return weight.float(), bias.float()


def logistic_regression(
    x: Tensor, classes: Tensor, *, num_classes: int, strength: float
) -> Linear:
    """Fit a multinomial logistic regression by scikit-learn.

    Args:
        x: (N, D) features.
        classes: (N,) class indices from 0 to C - 1. If all are one class, or there are
            none, scores are 0.
        num_classes: C.
        strength: C of `sklearn.linear_model.LogisticRegression`.

    Returns:
        weight (C, D) and bias (C,) of the class scores, float32; a class without items
        gets -1e4.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weight, bias = x.new_zeros(num_classes, x.shape[1]), x.new_zeros(num_classes)
    present = classes.unique()
    if len(present) < 2:
        return weight, bias
    model = LogisticRegression(C=strength, max_iter=_ITERATIONS)
    with warnings.catch_warnings():  # it is meant to stop early
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x.numpy(), classes.numpy())
    slopes = torch.as_tensor(model.coef_).float()
    offsets = torch.as_tensor(model.intercept_).float()
    if len(present) == 2:  # one row, the score of the second class
        signs = x.new_tensor([-0.5, 0.5])
        slopes, offsets = signs[:, None] * slopes, signs * offsets
    bias.fill_(_NEVER)
    weight[present], bias[present] = slopes, offsets
    return weight, bias
