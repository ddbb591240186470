"""Within-class whitening and linear discriminants, from moments that add up."""

from dataclasses import dataclass

import torch
from torch import Tensor

EIGENVALUE_FLOOR = 1e-6  # of the mean variance: a constant column stays finite
ROUNDING = 1e-10  # of all variance: less within classes is none


@dataclass
class ClassMoments:
    """Counts, sums and the second moment of labelled items.

    Moments of two parts of the items add up to those of all.

    Args:
        counts: (C,) items of each class.
        sums: (C, D) sum of the features of each class.
        products: (D, D) sum of the outer products of all items.
    """

    counts: Tensor
    sums: Tensor
    products: Tensor

    @classmethod
    def empty(cls, num_classes: int, features: int) -> "ClassMoments":
        """Start with no items.

        Args:
            num_classes: C.
            features: D.
        """
        return cls(
            torch.zeros(num_classes, dtype=torch.float64),
            torch.zeros(num_classes, features, dtype=torch.float64),
            torch.zeros(features, features, dtype=torch.float64),
        )

    def update(self, x: Tensor, classes: Tensor) -> None:
        """Take in one batch.

        Args:
            x: (B, D) features.
            classes: (B,) class indices from 0 to C - 1.
        """
        x = x.double()
        self.counts += torch.bincount(classes, minlength=len(self.counts))
        self.sums.index_add_(0, classes, x)
        self.products += x.T @ x

    def __add__(self, other: "ClassMoments") -> "ClassMoments":
        """Join the items of two parts."""
        return ClassMoments(
            self.counts + other.counts,
            self.sums + other.sums,
            self.products + other.products,
        )

    def means(self) -> Tensor:
        """Class means (C, D); 0 for a class without items."""
        return self.sums / self.counts.clamp(min=1)[:, None]

    def within_class_covariance(self) -> Tensor:
        """Mean outer product (D, D) of items minus the mean of their class.

        All zeros where the items of each class are equal, or there is one of each.
        """
        means = self.means()
        between = (means * self.counts[:, None]).T @ means
        within = self.products - between
        if float(within.trace()) <= ROUNDING * float(self.products.trace()):
            return torch.zeros_like(within)
        return within / self.counts.sum().clamp(min=1)


def whitening_matrix(covariance: Tensor, *, shrinkage: float = 0.4) -> Tensor:
    r"""Find the symmetric map under which a covariance becomes the identity.

    Formula:  A = ((1 - s) Σ + s tr(Σ) / D I)^(-1/2).

    Args:
        covariance: (D, D) symmetric Σ.
        shrinkage: s in [0, 1], towards equal variances.

    Returns:
        (D, D) float64; the identity for a covariance of zeros.

    Raises:
        ValueError: shrinkage outside [0, 1].

    Source:   a shrunk covariance (Ledoit and Wolf, 2004).  Differs: s is given.

    Example:
        >>> whitening_matrix(torch.diag(torch.tensor([4.0, 1.0])), shrinkage=0)
        tensor([[0.5000, 0.0000],
                [0.0000, 1.0000]], dtype=torch.float64)
    """
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"shrinkage must lie in [0, 1], got {shrinkage}")
    covariance = covariance.double()
    identity = torch.eye(len(covariance), dtype=torch.float64)
    variance = covariance.diagonal().mean()
    if not variance > 0:
        return identity
    shrunk = (1 - shrinkage) * covariance + shrinkage * variance * identity
    values, vectors = torch.linalg.eigh(shrunk)
    scales = values.clamp(min=float(EIGENVALUE_FLOOR * variance)).rsqrt()
    return (vectors * scales) @ vectors.T


def linear_discriminants(
    moments: ClassMoments, *, shrinkage: float = 0.1
) -> tuple[Tensor, Tensor]:
    r"""Classify by the nearest class mean after within-class whitening.

    Formula:  s_c(x) = x · A² μ_c - μ_c · A² μ_c / 2, with means μ measured from the mean
              of all items; a class without items gets -1e4.

    Args:
        moments: of the labelled items.
        shrinkage: of the within-class covariance, see `whitening_matrix`.

    Returns:
        weight (C, D) and bias (C,) of the class scores, float64.

    Source:   linear discriminant analysis (Fisher, 1936).  Differs: no.

    Example:
        >>> moments = ClassMoments.empty(2, 1)
        >>> x = torch.tensor([[0.0], [1.0], [4.0], [5.0]])
        >>> moments.update(x, torch.tensor([0, 0, 1, 1]))
        >>> weight, bias = linear_discriminants(moments)
        >>> (x.double() @ weight.T + bias).argmax(1)
        tensor([0, 0, 1, 1])
    """
    total = moments.sums.sum(0) / moments.counts.sum().clamp(min=1)
    centred = moments.means() - total
    root = whitening_matrix(moments.within_class_covariance(), shrinkage=shrinkage)
    weight = centred @ (root @ root)
    bias = -0.5 * (weight * centred).sum(1) - weight @ total
    empty = moments.counts <= 0
    weight[empty] = 0
    bias[empty] = -1e4
    return weight, bias
