"""Shallow supervised hashing: CCA followed by ITQ, and supervised discrete hashing."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor

from ..interface import Encoded, Method, Problem, Unsuited, method
from ..search import Choice, LogUniform
from . import quantizers
from .quantized import Prepared


def label_rows(labels: Tensor) -> Tensor:
    """Make rows of 0 and 1 (N, C) of class ids, or take multi-hot rows."""
    if labels is None:
        raise Unsuited("it needs labels")
    if labels.ndim == 2:
        return labels.float()
    return torch.nn.functional.one_hot(labels).float()


class CcaItq(Prepared):
    """Directions in which features and labels correlate, weighted by that, then ITQ.

    Where there are fewer of them than bits, rotated zeros make the rest.
    """

    def __init__(self, bits: int, ridge: float, iterations: int) -> None:
        super().__init__(whiten=False, database=True, shrinkage=0)
        self.bits, self.ridge, self.iterations = bits, ridge, iterations

    def fit(self, features: Tensor, labels: Tensor, database: Any = None) -> None:
        """Learn the directions from labels, and the rotation from the database."""
        rows = label_rows(labels)
        super().fit(features, labels, database)
        vectors = self.vectors(features)
        self.directions = cca_directions(vectors, rows, self.bits, self.ridge)
        self.rotation = quantizers.itq(self.bits, self.bits, self.iterations)
        self.rotation.train(self._projected(features if database is None else database))

    def _projected(self, features: Tensor) -> Tensor:
        return self.vectors(features) @ self.directions

    def encode(self, features: Tensor) -> Mapping[str, Encoded]:
        return quantizers.both_sides(
            "code", self.rotation.outputs(self._projected(features))
        )

    def head_parameters(self) -> tuple[int, int]:
        numbers = (self.mean.numel() + 1) * self.bits
        return numbers, numbers


def cca_directions(x: Tensor, y: Tensor, count: int, ridge: float) -> Tensor:
    """Find the directions of x that correlate most with y, times these correlations.

    Args:
        x: items (N, D).
        y: rows of labels (N, C).
        count: of the directions; zeros fill up.
        ridge: added to both covariances, as a share of their mean variance.

    Returns:
        (D, count).
    """
    a, b = ((each - each.mean(0)).double().numpy() for each in (x, y))
    own, other, cross = a.T @ a / len(a), b.T @ b / len(b), a.T @ b / len(a)
    for each in (own, other):
        each += ridge * np.trace(each) / len(each) * np.eye(len(each))
    values, vectors = eigh(cross @ np.linalg.solve(other, cross.T), own)
    rank = min(count, y.shape[1], x.shape[1])
    weights = np.sqrt(values[::-1][:rank].clip(min=0))
    directions = torch.zeros(x.shape[1], count)
    directions[:, :rank] = torch.from_numpy(vectors[:, ::-1][:, :rank] * weights).float()
    return directions


@method(
    "cca_itq",
    "CCA-ITQ",
    family="supervised",
    ridge=LogUniform(1e-3, 10.0),
    iterations=Choice(20, 50, 200),
)
def cca_itq(problem: Problem, ridge: float = 0.1, iterations: int = 50) -> Method:
    """Rotate the directions that correlate with labels, and take signs.

    Source: Gong, Lazebnik, Gordo, Perronnin, PAMI 2013.  Differs: the rotation is learned
    from the database, and zeros fill up where there are more bits than directions.
    """
    if problem.bits > problem.in_features:
        raise Unsuited(f"{problem.bits} bits of {problem.in_features} features")
    return CcaItq(problem.bits, ridge, iterations)


_ANCHORS = 1_000
_ROUNDS = 5
_SWEEPS = 10


class Sdh(Prepared):
    """Discrete codes from which labels can be read, and a kernel map to them."""

    def __init__(self, bits: int, width: float, fit_weight: float) -> None:
        super().__init__(whiten=False, database=False, shrinkage=0)
        self.bits, self.width, self.fit_weight = bits, width, fit_weight

    def fit(self, features: Tensor, labels: Tensor, database: Any = None) -> None:
        """Alternate between label reader, codes and map."""
        rows = label_rows(labels)
        super().fit(features, labels)
        vectors = self.vectors(features)
        chosen = torch.randperm(len(vectors))[:_ANCHORS]
        self.anchors = vectors[chosen]
        self.scale = torch.cdist(vectors, self.anchors).square().mean() * self.width
        kernel = self._kernel(vectors)
        solve = ridge_solver(kernel, 1e-3 * len(kernel))
        codes = torch.where(torch.randn(len(rows), self.bits) < 0, -1.0, 1.0)
        self.map = solve(codes)
        for _ in range(_ROUNDS):
            reader = ridge_solver(codes, 1.0)(rows)
            codes = discrete_codes(
                codes, rows, reader, kernel @ self.map, self.fit_weight, _SWEEPS
            )
            self.map = solve(codes)

    def _kernel(self, vectors: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(vectors, self.anchors).square() / self.scale)

    def encode(self, features: Tensor) -> Mapping[str, Encoded]:
        outputs = self._kernel(self.vectors(features)) @ self.map
        return quantizers.both_sides("code", outputs)

    def head_parameters(self) -> tuple[int, int]:
        numbers = self.map.numel() + self.anchors.numel()
        return numbers, numbers


def ridge_solver(x: Tensor, weight: float) -> Any:
    """Prepare targets (N, T) -> (D, T), the ridge regression on rows of x."""
    moments = x.T @ x + weight * torch.eye(x.shape[1])
    factor = torch.linalg.cholesky(moments)
    return lambda targets: torch.cholesky_solve(x.T @ targets, factor)


def discrete_codes(
    codes: Tensor,
    rows: Tensor,
    reader: Tensor,
    wanted: Tensor,
    fit_weight: float,
    sweeps: int,
) -> Tensor:
    """Minimise |Y - B W|^2 + v |B - F|^2 over B of -1 and +1, a bit of all items at a time.

    Args:
        codes: B to begin with (N, K).
        rows: Y (N, C).
        reader: W (K, C).
        wanted: F (N, K).
        fit_weight: v.
        sweeps: over all bits, at most; it ends where nothing changes.
    """
    target = rows @ reader.T + fit_weight * wanted
    gram = reader @ reader.T
    codes = codes.clone()
    for _ in range(sweeps):
        before = codes.clone()
        for bit in range(codes.shape[1]):
            others = codes @ gram[:, bit] - codes[:, bit] * gram[bit, bit]
            codes[:, bit] = torch.where(target[:, bit] - others < 0, -1.0, 1.0)
        if bool((codes == before).all()):
            break
    return codes


@method(
    "sdh",
    "SDH",
    family="supervised",
    width=Choice(0.1, 0.3, 1.0, 3.0),
    fit_weight=LogUniform(1e-5, 1e-1),
)
def sdh(problem: Problem, width: float = 0.3, fit_weight: float = 1e-3) -> Method:
    """Learn discrete codes that a linear classifier reads, and a kernel map to them.

    Source: Shen, Shen, Liu, Shen, CVPR 2015.  Differs: no.
    """
    return Sdh(problem.bits, width, fit_weight)
