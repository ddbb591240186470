"""Items with several labels each: what labels explain, and probabilities of each label."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .classifier import FOLDS

RIDGES = (0.3, 1.0, 3.0, 10.0)  # times the mean variance of a feature
LABEL_RIDGE = 1e-5  # of the items: labels may be linearly dependent
_NEWTON_STEPS, _STEEPEST = 30, 50.0
_DAMPING = 1e-4  # where all scores of a label lie far from 0


@dataclass
class LabelMoments:
    """Moments of labelled items, from which labels are regressed out.

    With one label an item they say what `ClassMoments` do.

    Args:
        gram: (C + 1, C + 1) products of label rows, each with a 1 appended.
        sums: (C + 1, D) products of those and the features.
        products: (D, D) sum of the outer products of all items.
    """

    gram: Tensor
    sums: Tensor
    products: Tensor

    @classmethod
    def empty(cls, num_labels: int, features: int) -> "LabelMoments":
        """Start with no items.

        Args:
            num_labels: C.
            features: D.
        """
        return cls(
            torch.zeros(num_labels + 1, num_labels + 1, dtype=torch.float64),
            torch.zeros(num_labels + 1, features, dtype=torch.float64),
            torch.zeros(features, features, dtype=torch.float64),
        )

    def update(self, x: Tensor, rows: Tensor) -> None:
        """Take in one batch.

        Args:
            x: (B, D) features.
            rows: (B, C) multi-hot labels.
        """
        x, rows = x.double(), F.pad(rows.double(), (0, 1), value=1.0)
        self.gram += rows.T @ rows
        self.sums += rows.T @ x
        self.products += x.T @ x

    def __add__(self, other: "LabelMoments") -> "LabelMoments":
        """Join the items of two parts."""
        return LabelMoments(
            self.gram + other.gram, self.sums + other.sums, self.products + other.products
        )

    def within_class_covariance(self) -> Tensor:
        """Covariance (D, D) of what a regression on the labels leaves."""
        items = self.gram[-1, -1].clamp(min=1)
        ridge = LABEL_RIDGE * items * torch.eye(len(self.gram), dtype=torch.float64)
        effects = torch.linalg.solve(self.gram + ridge, self.sums)
        explained = self.sums.T @ effects
        return (self.products - (explained + explained.T) / 2) / items


def fit_label_probabilities(
    x: Tensor, rows: Tensor, *, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Regress labels on features; calibrate each label's scores out of fold.

    Args:
        x: (N, D) features of labelled items.
        rows: (N, C) multi-hot labels.
        seed: of the folds.

    Returns:
        weight (C, D) and bias (C,) of scores whose sigmoid is the probability, and the
        out-of-fold scores (N, C) of the items themselves.
    """
    rows = rows.float()
    generator = torch.Generator().manual_seed(seed)
    fold = torch.randperm(len(x), generator=generator) % FOLDS
    best: tuple[float, float, Tensor, Tensor, Tensor] | None = None
    for ridge in RIDGES:
        scores = torch.empty_like(rows)
        for k in range(FOLDS):
            weight, bias = _regression(x[fold != k], rows[fold != k], ridge)
            scores[fold == k] = F.linear(x[fold == k], weight, bias)
        slope, offset = calibrated(scores, rows)
        found = slope * scores + offset
        nll = float(F.binary_cross_entropy_with_logits(found, rows))
        if best is None or nll < best[0]:
            best = nll, ridge, slope, offset, found
    assert best is not None
    _, ridge, slope, offset, trusted = best
    weight, bias = _regression(x, rows, ridge)
    return weight * slope[:, None], bias * slope + offset, trusted


def calibrated(scores: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Find slope and offset of each label that make its probabilities most likely.

    Args:
        scores: (N, C), out of fold.
        rows: (N, C) of 0 and 1.

    Returns:
        slope (C,) and offset (C,).

    Source:   Platt scaling (Platt, 1999), with its targets a little off 0 and 1.
              Differs: damped Newton steps for all labels at once.
    """
    s, y = scores.double(), rows.double()
    positive = y.sum(0)
    high, low = (positive + 1) / (positive + 2), 1 / (len(y) - positive + 2)
    y = torch.where(y > 0, high, low)
    slope, offset = torch.ones_like(positive), torch.zeros_like(positive)
    for _ in range(_NEWTON_STEPS):
        p = torch.sigmoid(slope * s + offset)
        curvature, error = p * (1 - p), p - y
        g, h = (error * s).mean(0), error.mean(0)
        a = (curvature * s * s).mean(0) + _DAMPING
        b = (curvature * s).mean(0)
        c = curvature.mean(0) + _DAMPING
        determinant = a * c - b * b
        slope = (slope - (c * g - b * h) / determinant).clamp(-_STEEPEST, _STEEPEST)
        offset = (offset - (a * h - b * g) / determinant).clamp(-_STEEPEST, _STEEPEST)
    return slope.float(), offset.float()


def _regression(x: Tensor, rows: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    centre, mean = x.mean(0), rows.mean(0)
    centred = (x - centre).double()
    gram = centred.T @ centred
    gram.diagonal().add_(ridge * gram.diagonal().mean() + 1e-12)
    weight = torch.linalg.solve(gram, centred.T @ (rows - mean).double()).T.float()
    return weight, mean - weight @ centre
