"""Features of a head: embeddings that are centred, whitened and scaled."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .multilabel import LabelMoments
from .rows import Labels, blocks, take
from .shrinkage import DEFAULT, JUDGED, chosen_shrinkage, halves_of
from .whitening import ClassMoments, whitening_matrix

_PROBE = 4096  # items whose mean length sets the scale
_LEAST_LENGTH = 1e-35  # of less, the inverse is beyond float32


@dataclass
class FeatureMap:
    """The map z = A (x - m).

    Args:
        matrix: A (D, D).
        centre: m (D,).
    """

    matrix: Tensor
    centre: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Map embeddings (N, D) to features (N, D)."""
        return (x - self.centre) @ self.matrix.T

    def of_raw(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Rewrite a linear map of features as one of embeddings.

        Args:
            weight: (K, D) of z.
            bias: (K,).

        Returns:
            weight and bias of x, float32.
        """
        composed = weight.double() @ self.matrix.double()
        shifted = bias.double() - composed @ self.centre.double()
        return composed.float(), shifted.float()

    def of_features(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Rewrite a linear map of embeddings as one of features.

        Args:
            weight: (K, D) of x.
            bias: (K,).

        Returns:
            weight and bias of z, float32.
        """
        composed = torch.linalg.solve(self.matrix.double().T, weight.double().T).T
        shifted = bias.double() + weight.double() @ self.centre.double()
        return composed.float(), shifted.float()


def fit_features(
    x: Any, labels: Labels, *, seed: int = 0, progress: bool = False, whiten: bool = True
) -> tuple[FeatureMap, ClassMoments | LabelMoments]:
    """Whiten by the labelled items; centre on the unlabelled ones, if there are any.

    Args:
        x: (N, D) array or tensor; read once, in blocks.
        labels: of the items.
        seed: of the classes by which the strength of whitening is chosen.
        progress: show a bar.
        whiten: if not, features are centred and scaled only.

    Returns:
        the map, under which items have mean length 1, and the moments of labelled items.

    Raises:
        ValueError: x holds NaN or inf.
    """
    classes = labels.classes
    unlabelled = classes < 0
    if not bool(unlabelled.any()):
        unlabelled = classes >= 0
    kind = ClassMoments if labels.rows is None else LabelMoments
    known_as = classes if labels.rows is None else labels.rows
    parts: list[Any] = [kind.empty(len(labels.names), x.shape[1]) for _ in range(2)]
    part_of = _parts(labels, seed)
    total = torch.zeros(x.shape[1], dtype=torch.float64)
    for rows, block in blocks(x, "reading" if progress else None):
        if not bool(block.isfinite().all()):
            raise ValueError(
                "X holds NaN or inf, or numbers beyond float32: no codes can be learned "
                "from them"
            )
        for k, part in enumerate(parts):
            own = part_of[rows] == k
            part.update(block[own], known_as[rows][own])
        total += block[unlabelled[rows]].double().sum(0)
    centre = total / int(unlabelled.sum())
    moments = parts[0] + parts[1]
    matrix = torch.eye(x.shape[1], dtype=torch.float64)
    if whiten:
        strength = DEFAULT
        if labels.rows is None:
            items = [_some(x, classes, part_of == k) for k in range(2)]
            strength = chosen_shrinkage(parts, items)
        covariance = moments.within_class_covariance()
        matrix = whitening_matrix(covariance, shrinkage=strength)
    features = FeatureMap(matrix.float(), centre.float())
    probe = torch.linspace(0, len(x) - 1, min(len(x), _PROBE)).long()
    length = features(take(x, probe)).double().norm(dim=1).mean()  # squares may overflow
    if float(length) > _LEAST_LENGTH:
        features.matrix /= length
    return features, moments


def _parts(labels: Labels, seed: int) -> Tensor:
    """Tell (N,) which half of the classes an item is of; -1: unlabelled.

    With several labels an item, no half would be free of the other: 0 for all.
    """
    known = labels.classes >= 0
    if labels.rows is not None:
        return known.long() - 1
    parts = torch.full((len(known),), -1)
    parts[known] = halves_of(len(labels.names), seed=seed)[labels.classes[known]]
    return parts


def _some(x: Any, classes: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.nonzero(part).flatten()
    few = torch.linspace(0, max(len(rows) - 1, 0), min(len(rows), JUDGED)).long()
    return take(x, rows[few]), classes[rows[few]]
