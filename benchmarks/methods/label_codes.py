"""Codes that say no more than which labels a classifier predicts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from torch import Tensor

from pml_nmlayer.codes import binarize

from ..interface import ASYMMETRIC, Encoded, Method, Pair, Problem, Unsuited, method
from . import quantizers
from .class_codes import SCALE, STEPS, STRENGTH
from .quantized import Prepared


class LabelCodes(Prepared):
    """One regression a label, and codes of what they predict for an item."""

    def __init__(self, bits: int, strength: float) -> None:
        super().__init__(whiten=False, database=False, shrinkage=0)
        self.bits, self.strength = bits, strength

    def fit(self, features: Tensor, labels: Tensor, database: Any = None) -> None:
        """Learn each label, then fit quantizers to the probabilities."""
        if labels is None or labels.ndim == 1:
            raise Unsuited("codes of label vectors need several labels an item")
        super().fit(features, labels)
        one = LogisticRegression(C=self.strength, max_iter=STEPS)
        self.classifier = OneVsRestClassifier(one)
        self.classifier.fit(SCALE * self.vectors(features).numpy(), labels.numpy())
        probabilities = self._probabilities(features)
        width = probabilities.shape[1]
        self.repeated = -(-self.bits // width)  # so that there are enough dimensions
        lifted = self._lifted(probabilities)
        self.ways = {
            "itq": quantizers.itq(lifted.shape[1], self.bits, iterations=50),
            "pca": quantizers.pca_rotated(lifted.shape[1], self.bits),
        }
        for way in self.ways.values():
            way.train(lifted)

    def _probabilities(self, features: Tensor) -> Tensor:
        x = SCALE * self.vectors(features).numpy()
        return torch.from_numpy(np.asarray(self.classifier.predict_proba(x))).float()

    def _lifted(self, probabilities: Tensor) -> Tensor:
        """Append powers, where there are fewer labels than bits."""
        parts = [probabilities ** (1 / power) for power in range(1, self.repeated + 1)]
        return torch.cat(parts, 1)

    def encode(self, features: Tensor) -> Mapping[str, Encoded]:
        probabilities = self._probabilities(features)
        rows, bits = binarize(probabilities - 0.5), probabilities.shape[1]
        found: dict[str, Encoded] = {
            "vector": Pair(rows, rows, bits),
            f"vector{ASYMMETRIC}": Pair(2 * probabilities - 1, None, bits),
        }
        lifted = self._lifted(probabilities)
        for name, way in self.ways.items():
            found |= quantizers.both_sides(name, way.outputs(lifted))
        return found

    def head_parameters(self) -> tuple[int, int]:
        """Count the regressions and the map behind them."""
        width = self.mean.numel() + 1
        numbers = len(self.classifier.estimators_) * width + self.ways["itq"].numbers
        return numbers, numbers


@method(
    "label_codes",
    "predicted labels",
    ("vector", "itq", "pca"),
    family="class",
    strength=STRENGTH,
)
def label_codes(problem: Problem, strength: float = 10.0) -> Method:
    """Store the labels that regressions predict, or ITQ or PCA of their probabilities."""
    return LabelCodes(problem.bits, strength)
