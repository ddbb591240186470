"""Features as they are, or whitened by labels, and quantizers that learn no network."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..interface import Encoded, Method, Problem, Unsuited, add_method
from ..registry import check_known
from ..search import Choice, Space
from . import quantizers
from .product_codes import Product, RaBitQ

ITERATIONS = Choice(20, 50, 200)  # of ITQ
SHRINKAGE = Choice(0.1, 0.2, 0.4, 0.7)
T = TypeVar("T")
DIMENSIONS = Choice(24, 48, 96)  # principal components for PQ


def whitening_map(x: np.ndarray, labels: np.ndarray, shrinkage: float) -> np.ndarray:
    """Make classes round: the inverse root of their mean covariance (D, D).

    Args:
        x: labelled items (N, D).
        labels: class ids (N,).
        shrinkage: share of the covariance that becomes a multiple of the identity.

    Source:   Fukunaga, 1990.  Differs: shrinkage towards the mean eigenvalue.
    """
    covariance = within_class_covariance(x.astype(np.float64), labels)
    size = len(covariance)
    round_one = np.trace(covariance) / size * np.eye(size)
    values, vectors = np.linalg.eigh((1 - shrinkage) * covariance + shrinkage * round_one)
    return (vectors * values**-0.5) @ vectors.T


def within_class_covariance(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average the covariances of classes, each weighted by its items: (D, D)."""
    classes, numbers = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(classes), x.shape[1]))
    np.add.at(sums, numbers, x)
    rest = x - (sums / np.bincount(numbers)[:, None])[numbers]
    return rest.T @ rest / len(x)


class Prepared:
    """Features of length 1 around a mean, whitened or not: floats, and the base of codes.

    Args:
        whiten: by the labels of the training items.
        database: fit on the items that will be searched, not on the training items.
        shrinkage: see `whitening_map`.
    """

    on_features = True

    def __init__(self, *, whiten: bool, database: bool, shrinkage: float) -> None:
        self.whiten, self.shrinkage = whiten, shrinkage
        self.uses_database = database
        self.matrix: Tensor | None = None

    def fit(self, features: Tensor, labels: Tensor, database: Any = None) -> None:
        """Whiten by the labels, then fit."""
        if self.uses_database and database is None:
            raise ValueError("it is fitted on the database: pass fit(..., database=items)")
        fitted = features if database is None else database
        self.mean = fitted.mean(0)
        if self.whiten:
            if labels is None or labels.ndim == 2:
                raise Unsuited("whitening needs one class an item")
            x = normalize(features - self.mean).numpy()
            matrix = whitening_map(x, labels.numpy(), self.shrinkage)
            self.matrix = torch.from_numpy(matrix).float()
            self.whitened_mean = self._whitened(fitted).mean(0)
        self.train(self.vectors(fitted))

    def _whitened(self, features: Tensor) -> Tensor:
        assert self.matrix is not None
        return normalize(normalize(features - self.mean) @ self.matrix)

    def vectors(self, features: Tensor) -> Tensor:
        """Prepare items."""
        if self.matrix is None:
            return normalize(features - self.mean)
        return normalize(self._whitened(features) - self.whitened_mean)

    def train(self, vectors: Tensor) -> None:
        """Fit what comes after the preparation: nothing, for floats."""

    def encode(self, features: Tensor) -> Mapping[str, Encoded]:
        return {"float": self.vectors(features)}

    def head_parameters(self) -> tuple[int, int]:
        """Count nothing: these are no heads."""
        return 0, 0


class Signs(Prepared):
    """Hamming codes: signs of what quantizers make of the vectors."""

    def __init__(self, make: Mapping[str, quantizers.Maker], bits: int, **how: Any) -> None:
        super().__init__(**how)
        self.make, self.bits = make, bits

    def train(self, vectors: Tensor) -> None:
        width = vectors.shape[1]
        self.ways = {name: make(width, self.bits) for name, make in self.make.items()}
        for quantizer in self.ways.values():
            quantizer.train(vectors)

    def encode(self, features: Tensor) -> Mapping[str, Encoded]:
        vectors = self.vectors(features)
        found: dict[str, Encoded] = {}
        for name, quantizer in self.ways.items():
            found |= quantizers.both_sides(name, quantizer.outputs(vectors))
        return found

    def head_parameters(self) -> tuple[int, int]:
        """Count the first of the quantizers."""
        first, *_ = self.ways.values()
        return first.numbers, first.numbers


class ProductCodes(Prepared):
    """Codes of PQ, OPQ and RaBitQ."""

    def __init__(self, bits: int, dimensions: int, **how: Any) -> None:
        super().__init__(**how)
        self.ways: dict[str, Product | RaBitQ] = {
            "pq": Product(bits, dimensions, rotated=False),
            "opq": Product(bits, dimensions, rotated=True),
            "rabitq": RaBitQ(bits),
        }

    def train(self, vectors: Tensor) -> None:
        for each in self.ways.values():
            each.train(vectors)

    def encode(self, features: Tensor) -> Mapping[str, Encoded]:
        vectors = self.vectors(features)
        found: dict[str, Encoded] = {}
        for name, each in self.ways.items():
            found |= each.pairs(name, vectors)
        return found


def floats(problem: Problem, *, whiten: bool, shrinkage: float = 0.4) -> Method:
    """Compare features by cosine: no code, but what codes stand for."""
    return Prepared(whiten=whiten, database=True, shrinkage=shrinkage)


def signs(
    problem: Problem,
    *,
    whiten: bool,
    database: bool,
    ways: Sequence[str] | None = None,
    iterations: int = 50,
    shrinkage: float = 0.4,
) -> Method:
    """Take signs of principal components, rotated or not, or of random directions."""
    _check_enough(problem)
    make: dict[str, quantizers.Maker] = {
        "itq": partial(quantizers.itq, iterations=iterations),
        "pca": quantizers.pca_sign,
        "pca_rotated": quantizers.pca_rotated,
        "lsh": quantizers.lsh,
    }
    how = {"whiten": whiten, "database": database, "shrinkage": shrinkage}
    return Signs(_chosen(make, ways), problem.bits, **how)


def product_codes(
    problem: Problem,
    *,
    whiten: bool,
    database: bool,
    ways: Sequence[str] | None = None,
    dimensions: int = 48,
    shrinkage: float = 0.4,
) -> Method:
    """Quantize parts of the vectors by k-means (PQ, OPQ), or keep one bit each (RaBitQ)."""
    _check_enough(problem)
    how = {"whiten": whiten, "database": database, "shrinkage": shrinkage}
    made = ProductCodes(problem.bits, dimensions, **how)
    made.ways = _chosen(made.ways, ways)
    return made


def _chosen(made: Mapping[str, T], ways: Sequence[str] | None) -> dict[str, T]:
    """Keep some of the quantizers; None keeps all."""
    names = list(made) if ways is None else ways
    check_known("quantizer", names, made)
    return {name: made[name] for name in names}


def _check_enough(problem: Problem) -> None:
    if problem.bits > problem.in_features:
        raise Unsuited(
            f"{problem.bits} bits need as many principal components, and the features "
            f"have {problem.in_features}"
        )


def _register() -> None:
    for whiten in (False, True):
        kind = "whitened" if whiten else "raw"
        own: dict[str, Space] = {"shrinkage": SHRINKAGE} if whiten else {}
        add_method(
            f"floats_{kind}",
            f"{kind} features",
            partial(floats, whiten=whiten),
            defaults={"shrinkage": 0.4},
            space=own,
            encodings=("float",),
            family="floats",
        )
        for database in (True, False):
            where = "database" if database else "training"
            add_method(
                f"signs_{kind}_{where}",
                f"{kind} features, fitted on {where}",
                partial(signs, whiten=whiten, database=database),
                defaults={"ways": None, "iterations": 50, "shrinkage": 0.4},
                space={"iterations": ITERATIONS, **own},
                encodings=("itq", "pca", "pca_rotated", "lsh"),
                family="quantizer",
            )
            add_method(
                f"product_{kind}_{where}",
                f"{kind} features, fitted on {where}",
                partial(product_codes, whiten=whiten, database=database),
                defaults={"ways": None, "dimensions": 48, "shrinkage": 0.4},
                space={"dimensions": DIMENSIONS, **own},
                encodings=("pq", "opq", "rabitq"),
                family="quantizer",
            )


_register()
