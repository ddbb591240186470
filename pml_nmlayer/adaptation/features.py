"""Features of a head: embeddings that are centred, whitened and scaled."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .multilabel import LabelMoments
from .rows import Labels, blocks, take
from .shrinkage import DEFAULT, JUDGED, chosen_shrinkage, halves_of
from .whitening import ClassMoments, whitening_matrix

_PROBE = 4096  # items whose mean length sets the scale


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
    parts: _Parts = _Halves(labels, x.shape[1], seed)
    if labels.rows is not None:
        parts = _Several(labels, labels.rows, x.shape[1])
    total = torch.zeros(x.shape[1], dtype=torch.float64)
    for rows, block in blocks(x, "reading" if progress else None):
        if not bool(block.isfinite().all()):
            raise ValueError("X holds NaN or inf: no codes can be learned from them")
        parts.update(block, rows)
        total += block[unlabelled[rows]].double().sum(0)
    centre = total / int(unlabelled.sum())
    moments = parts.moments()
    matrix = torch.eye(x.shape[1], dtype=torch.float64)
    if whiten:
        covariance = moments.within_class_covariance()
        matrix = whitening_matrix(covariance, shrinkage=parts.shrinkage(x))
    features = FeatureMap(matrix.float(), centre.float())
    probe = torch.linspace(0, len(x) - 1, min(len(x), _PROBE)).long()
    length = features(take(x, probe)).norm(dim=1).mean()
    if float(length) > 0:
        features.matrix /= length
    return features, moments


class _Parts(Protocol):
    """Moments of labelled items, read block by block."""

    def update(self, block: Tensor, rows: slice) -> None: ...

    def moments(self) -> ClassMoments | LabelMoments: ...

    def shrinkage(self, x: Any) -> float: ...


class _Halves:
    """Of items with one class each: apart for either half of the classes."""

    def __init__(self, labels: Labels, width: int, seed: int) -> None:
        count = len(labels.names)
        self.classes = labels.classes
        # the last entry is the place of -1
        self.half = torch.cat([halves_of(count, seed=seed), torch.tensor([-1])])
        self.parts = tuple(ClassMoments.empty(count, width) for _ in range(2))

    def update(self, block: Tensor, rows: slice) -> None:
        classes = self.classes[rows]
        for k, part in enumerate(self.parts):
            own = self.half[classes] == k
            part.update(block[own], classes[own])

    def moments(self) -> ClassMoments:
        return self.parts[0] + self.parts[1]

    def shrinkage(self, x: Any) -> float:
        items = [self._some(x, self.half[self.classes] == k) for k in range(2)]
        return chosen_shrinkage((self.parts[0], self.parts[1]), items)

    def _some(self, x: Any, part: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.nonzero(part).flatten()
        few = torch.linspace(0, max(len(rows) - 1, 0), min(len(rows), JUDGED)).long()
        return take(x, rows[few]), self.classes[rows[few]]


class _Several:
    """Of items with several labels each."""

    def __init__(self, labels: Labels, hot: Tensor, width: int) -> None:
        self.known, self.hot = labels.classes >= 0, hot
        self.all = LabelMoments.empty(hot.shape[1], width)

    def update(self, block: Tensor, rows: slice) -> None:
        own = self.known[rows]
        self.all.update(block[own], self.hot[rows][own])

    def moments(self) -> LabelMoments:
        return self.all

    def shrinkage(self, x: Any) -> float:
        return DEFAULT
