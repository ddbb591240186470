"""Codes that say no more than which class a classifier predicts."""

from collections.abc import Mapping
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from pml_nmlayer.classes.codebooks import make_codebook
from pml_nmlayer.classes.semantic_codebook import semantic_codebook

from ..interface import ASYMMETRIC, Encoded, Method, Pair, Problem, Unsuited, method
from ..search import Choice
from .quantized import Prepared

STRENGTH = Choice(0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # 1 / weight of the penalty
SCALE = 4.0  # of features of length 1, so that few steps are needed
STEPS = 300


class ClassCodes(Prepared):
    """A logistic regression, and three ways to store the class that it predicts.

    Args:
        bits: of a codeword.
        strength: of the regression, scikit-learn's C.
        seed: of the codewords.
    """

    def __init__(self, bits: int, strength: float, seed: int) -> None:
        super().__init__(whiten=False, database=False, shrinkage=0)
        self.bits, self.strength, self.seed = bits, strength, seed

    def fit(self, features: Tensor, labels: Tensor, database: Any = None) -> None:
        """Learn the classes, and give each of them codewords."""
        if labels is None or labels.ndim == 2:
            raise Unsuited("codes of classes need one class an item")
        super().fit(features, labels)
        vectors = self.vectors(features)
        self.classifier = LogisticRegression(C=self.strength, max_iter=STEPS)
        self.classifier.fit(SCALE * vectors.numpy(), labels.numpy())
        classes = len(self.classifier.classes_)
        rows = torch.nn.functional.one_hot(labels, classes).float()
        means = rows.T @ vectors / rows.sum(0)[:, None]
        self.codebooks = {
            "code": make_codebook(classes, self.bits, seed=self.seed),
            "semantic": semantic_codebook(means, self.bits),
        }
        self.labels = labels

    def _posterior(self, features: Tensor) -> Tensor:
        x = SCALE * self.vectors(features).numpy()
        return torch.from_numpy(self.classifier.predict_proba(x)).float()

    def encode(self, features: Tensor) -> Mapping[str, Encoded]:
        posterior = self._posterior(features)
        found = self._stored(posterior.argmax(1))
        for name, codebook in self.codebooks.items():
            found[f"{name}{ASYMMETRIC}"] = Pair(posterior @ codebook)
        found[f"number{ASYMMETRIC}"] = Pair(posterior)
        return found

    def encode_training(self) -> Mapping[str, Encoded]:
        """Store the class that was given, not the one that is predicted."""
        return self._stored(self.labels)

    def _stored(self, classes: Tensor) -> dict[str, Encoded]:
        count = len(self.classifier.classes_)
        rows = torch.nn.functional.one_hot(classes, count).float()
        bits = max(count - 1, 1).bit_length()
        codes = {name: book[classes] for name, book in self.codebooks.items()}
        return {**codes, "number": Pair(rows, rows, bits)}

    def head_parameters(self) -> tuple[int, int]:
        """Count the regression; codewords of one kind when served."""
        numbers = self.classifier.coef_.size + self.classifier.intercept_.size
        return numbers, numbers + self.codebooks["code"].numel()


@method(
    "class_codes",
    "predicted class",
    ("code", "semantic", "number"),
    family="class",
    strength=STRENGTH,
)
def class_codes(problem: Problem, strength: float = 10.0) -> Method:
    """Store the codeword, or the number, of the class that a logistic regression predicts.

    Source: Sablayrolles, Douze, Usunier, Jegou, ICASSP 2017.  Differs: codewords are far
    apart, or near where classes are alike; real queries ask with the posterior.
    """
    return ClassCodes(problem.bits, strength, _seed())


def _seed() -> int:
    return int(torch.randint(2**31, ()))
