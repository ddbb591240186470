"""Loop twins of the vectorised kernels, written from the formulas in the docstrings.

Scalars, `math` and plain lists only: nothing here may share code with what it checks.
"""

import math


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def sign(x):
    return 1.0 if x >= 0 else -1.0


def dot(u, v):
    return sum(a * b for a, b in zip(u, v, strict=True))


def similar(y, z):
    """Class ids, or multi-hot rows that share at least one label."""
    if isinstance(y, list):
        return any(a and b for a, b in zip(y, z, strict=True))
    return y == z


def dpsh(u, y, quantization_weight, balanced):
    """Embeddings and labels as lists -> the loss, all pairs with i != j."""
    pos, neg = [], []
    for i in range(len(u)):
        for j in range(len(u)):
            if i == j:
                continue
            theta = 0.5 * dot(u[i], u[j])
            s = 1.0 if similar(y[i], y[j]) else 0.0
            (pos if s else neg).append(softplus(theta) - s * theta)
    if balanced:
        nll = 0.5 * (sum(pos) / max(len(pos), 1) + sum(neg) / max(len(neg), 1))
    else:
        nll = sum(pos + neg) / max(len(pos + neg), 1)
    if not pos and not neg:
        return 0.0
    terms = [(x - sign(x)) ** 2 for row in u for x in row]
    return nll + quantization_weight * sum(terms) / len(terms)
