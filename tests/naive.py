"""Loop twins of the vectorised kernels, written from the formulas in the docstrings.

Scalars, `math` and plain lists only: nothing here may share code with what it checks.
"""

import itertools
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


def hamming(q, r):
    """Two codes as lists -> number of bits that differ."""
    return sum(1 for a, b in zip(q, r, strict=True) if a != b)


def shared_labels(y, z):
    """Number of labels two items share; 0 or 1 for class ids."""
    if isinstance(y, list):
        return sum(1 for a, b in zip(y, z, strict=True) if a and b)
    return int(y == z)


def histograms(q, q_labels, r, r_labels, skip_self):
    """Codes and labels as lists -> per query and distance, a list of grades."""
    result = []
    for i in range(len(q)):
        at_distance = [[] for _ in range(len(q[0]) + 1)]
        for j in range(len(r)):
            if skip_self and i == j:
                continue
            at_distance[hamming(q[i], r[j])].append(shared_labels(q_labels[i], r_labels[j]))
        result.append(at_distance)
    return result


def average_precision(relevant, k, normalizer):
    """One ranked list of booleans -> AP@k."""
    k = len(relevant) if k is None else min(k, len(relevant))
    found, total = 0, 0.0
    for rank in range(1, k + 1):
        if relevant[rank - 1]:
            found += 1
            total += found / rank
    everything = sum(relevant)
    if everything == 0:
        return math.nan
    z = {"retrieved": found, "relevant": everything, "min": min(everything, k)}[normalizer]
    return total / z if z else 0.0


def orders_of_ties(ties):
    """All ranked lists of a list of ties, by permuting inside each tie."""
    lists = [[]]
    for tie in ties:
        lists = [
            head + list(tail) for head in lists for tail in itertools.permutations(tie)
        ]
    return lists


def dcg(grades, k, gain):
    """One ranked list of grades -> DCG@k."""
    total = 0.0
    for rank, grade in enumerate(grades[:k], start=1):
        worth = 2.0**grade - 1 if gain == "exponential" else float(grade)
        total += worth / math.log2(1 + rank)
    return total
