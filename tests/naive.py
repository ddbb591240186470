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


def correlation(codes, i, j):
    """Pearson correlation of two bit columns; 0 if one never flips."""
    n = len(codes)
    mean_i = sum(row[i] for row in codes) / n
    mean_j = sum(row[j] for row in codes) / n
    covariance = sum((row[i] - mean_i) * (row[j] - mean_j) for row in codes) / n
    variance_i = sum((row[i] - mean_i) ** 2 for row in codes) / n
    variance_j = sum((row[j] - mean_j) ** 2 for row in codes) / n
    if variance_i == 0 or variance_j == 0:
        return 0.0
    return covariance / math.sqrt(variance_i * variance_j)


def balanced_likelihood(codes, y, left_out=None):
    """Class-balanced pair likelihood without one bit; None without both kinds of pairs."""
    pos, neg = [], []
    for i in range(len(codes)):
        for j in range(len(codes)):
            if i == j:
                continue
            kept = [k for k in range(len(codes[0])) if k != left_out]
            theta = 0.5 * sum(codes[i][k] * codes[j][k] for k in kept)
            if similar(y[i], y[j]):
                pos.append(softplus(-theta))
            else:
                neg.append(softplus(theta))
    if not pos or not neg:
        return None
    return 0.5 * sum(pos) / len(pos) + 0.5 * sum(neg) / len(neg)


def drop_one_importance(codes, y):
    whole = balanced_likelihood(codes, y)
    if whole is None:
        return None
    return [balanced_likelihood(codes, y, k) - whole for k in range(len(codes[0]))]


def merged(u, groups, weights):
    """Rows of K outputs -> rows of K' outputs: signed weighted sum of each group."""
    result = []
    for row in u:
        out = [0.0] * (max(groups) + 1)
        for k, value in enumerate(row):
            out[groups[k]] += weights[k] * value
        result.append(out)
    return result


def quantization_regularizer(u, kind):
    """Embeddings as lists -> mean of φ(||x| - 1|) over all outputs."""
    total = 0.0
    for row in u:
        for x in row:
            r = abs(abs(x) - 1)
            if kind == "l1":
                total += r
            elif kind == "l2":
                total += r * r
            elif kind == "cubic":
                total += r * r * r
            else:
                total += math.log((math.exp(r) + math.exp(-r)) / 2)
    return total / (len(u) * len(u[0]))


def bit_balance_regularizer(u):
    total = 0.0
    for k in range(len(u[0])):
        total += (sum(row[k] for row in u) / len(u)) ** 2
    return total / len(u[0])


def bit_decorrelation_regularizer(u):
    bits, total = len(u[0]), 0.0
    for k in range(bits):
        for m in range(bits):
            if k != m:
                total += (sum(row[k] * row[m] for row in u) / len(u)) ** 2
    return total / (bits * (bits - 1))


def hamming_similarity(u, v):
    """Two lists of outputs -> number of bits on which their signs agree."""
    return sum(1 for a, b in zip(u, v, strict=True) if (a >= 0) == (b >= 0))


def multilabel_pairs(y, ref=None):
    """Rows of labels -> positive and negative pairs (i, j), without i = j in one set."""
    pos, neg = [], []
    for i in range(len(y)):
        for j in range(len(y) if ref is None else len(ref)):
            if ref is None and i == j:
                continue
            shares = similar(y[i], (y if ref is None else ref)[j])
            (pos if shares else neg).append((i, j))
    return pos, neg


def multilabel_triplets(y, ref=None):
    pos, neg = multilabel_pairs(y, ref)
    return [(i, j, k) for i, j in pos for i2, k in neg if i == i2]
