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


def balanced_likelihood(codes, y, left_out=None, tau=0.0):
    """Class-balanced pair likelihood without one bit; None without both kinds of pairs."""
    pos, neg = [], []
    for i in range(len(codes)):
        for j in range(len(codes)):
            if i == j:
                continue
            kept = [k for k in range(len(codes[0])) if k != left_out]
            theta = 0.5 * sum(codes[i][k] * codes[j][k] for k in kept)
            if similar(y[i], y[j]):
                pos.append(softplus(tau - theta))
            else:
                neg.append(softplus(theta - tau))
    if not pos or not neg:
        return None
    return 0.5 * sum(pos) / len(pos) + 0.5 * sum(neg) / len(neg)


def middle_theta(codes, y):
    """Middle between the mean θ of similar and that of dissimilar pairs."""
    pos, neg = [], []
    for i, a in enumerate(codes):
        for j, b in enumerate(codes):
            if i != j:
                theta = 0.5 * sum(p * q for p, q in zip(a, b, strict=True))
                (pos if similar(y[i], y[j]) else neg).append(theta)
    return 0.5 * (sum(pos) / len(pos) + sum(neg) / len(neg))


def drop_one_importance(codes, y, threshold=False):
    whole = balanced_likelihood(codes, y)
    if whole is None:
        return None
    tau = middle_theta(codes, y) if threshold else 0.0
    whole = balanced_likelihood(codes, y, tau=tau)
    return [balanced_likelihood(codes, y, k, tau) - whole for k in range(len(codes[0]))]


def merged(u, groups, weights):
    """Rows of K outputs -> rows of K' outputs: signed weighted sum of each group."""
    result = []
    for row in u:
        out = [0.0] * (max(groups) + 1)
        for k, value in enumerate(row):
            out[groups[k]] += weights[k] * value
        result.append(out)
    return result


def lifted(v, groups, weights):
    """Merged outputs -> as many as before the merge, with the same inner products."""
    out = []
    for row in v:
        norms = [0.0] * len(row)
        for g, w in zip(groups, weights, strict=True):
            norms[g] += w * w
        pairs = zip(groups, weights, strict=True)
        out.append([w * row[g] / math.sqrt(norms[g]) for g, w in pairs])
    return out


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


# --- class-wise losses: W, centres and rows are lists of lists -----------------------


def classwise_members(y):
    """Class ids, or multi-hot rows -> the classes of one item."""
    return [c for c, bit in enumerate(y) if bit] if isinstance(y, list) else [y]


def classwise_soft_ce(logits, members):
    """Cross-entropy to equally likely targets; 0 without any."""
    top = max(logits)
    log_sum = top + math.log(sum(math.exp(z - top) for z in logits))
    return sum(log_sum - logits[c] for c in members) / max(len(members), 1)


def greedyhash(u, y, W, quantization_weight):
    ce = [
        classwise_soft_ce(
            [dot(w, [sign(x) for x in row]) for w in W], classwise_members(yi)
        )
        for row, yi in zip(u, y, strict=True)
    ]
    cubes = [abs(abs(x) - 1) ** 3 for row in u for x in row]
    return sum(ce) / len(ce) + quantization_weight * sum(cubes) / len(cubes)


def greedyhash_code_gradient(u, y, W):
    """Slope of the mean cross-entropy in the code b, which the output u receives."""
    slopes = []
    for row, yi in zip(u, y, strict=True):
        logits = [dot(w, [sign(x) for x in row]) for w in W]
        total, members = sum(math.exp(z) for z in logits), classwise_members(yi)
        excess = [
            (math.exp(z) / total - (c in members) / len(members)) if members else 0.0
            for c, z in enumerate(logits)
        ]
        slopes.append(
            [sum(e * w[k] for e, w in zip(excess, W, strict=True)) for k in range(len(row))]
        )
    return [[s / len(u) for s in row] for row in slopes]


def csq_centre(members, centres, tie_bits):
    code = []
    for k, tie in enumerate(tie_bits):
        total = sum(centres[c][k] for c in members)
        code.append(tie if total == 0 else math.copysign(1.0, total))
    return code


def csq(u, y, centres, tie_bits, quantization_weight):
    bce, log_cosh = [], []
    for row, yi in zip(u, y, strict=True):
        members = classwise_members(yi)
        for x, c in zip(row, csq_centre(members, centres, tie_bits), strict=True):
            h, target = 0.5 * (math.tanh(x) + 1), 0.5 * (c + 1)
            cost = -(target * math.log(h) + (1 - target) * math.log(1 - h))
            bce.append(cost if members else 0.0)
            log_cosh.append(math.log(math.cosh(abs(2 * h - 1) - 1)))
    return sum(bce) / len(bce) + quantization_weight * sum(log_cosh) / len(log_cosh)


def orthohash(u, y, centres, margin_type, scale, margin):
    losses = []
    for row, yi in zip(u, y, strict=True):
        members, logits = classwise_members(yi), []
        for c, o in enumerate(centres):
            cosine = dot(row, o) / math.sqrt(dot(row, row) * dot(o, o))
            angle = math.acos(max(-1.0, min(1.0, cosine)))
            m = margin if c in members else 0.0
            if margin_type == "cosine":
                logits.append(scale * (cosine - m))
            elif angle + m <= math.pi:
                logits.append(scale * math.cos(angle + m))
            else:
                logits.append(scale * (cosine - m * math.sin(m)))
        losses.append(classwise_soft_ce(logits, members))
    return sum(losses) / len(losses)


def dpn(u, y, centres, margin, sum_bits):
    losses = []
    for row, yi in zip(u, y, strict=True):
        members = classwise_members(yi)
        hinges = [
            max(0.0, margin - x * t)
            for c in members
            for x, t in zip(row, centres[c], strict=True)
        ]
        losses.append(sum(hinges) / max(len(members), 1) / (1 if sum_bits else len(row)))
    return sum(losses) / len(losses)


def jmlh(u, y, W, bias, kl_weight, sum_bits):
    """Evaluation mode: the code is sign u."""
    ce, kl = [], 0.0
    for row, yi in zip(u, y, strict=True):
        code = [sign(x) for x in row]
        logits = [dot(w, code) + a for w, a in zip(W, bias, strict=True)]
        ce.append(classwise_soft_ce(logits, classwise_members(yi)))
        for x in row:
            p = 1 / (1 + math.exp(-x))
            kl += p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    count = len(u) if sum_bits else len(u) * len(u[0])
    return sum(ce) / len(ce) + kl_weight * kl / count


def dsdh(u, y, W, class_weight, ridge_weight, quantization_weight, balanced):
    errors = []
    for row, yi in zip(u, y, strict=True):
        members, code = classwise_members(yi), [sign(x) for x in row]
        errors.append(sum(((c in members) - dot(w, code)) ** 2 for c, w in enumerate(W)))
    squares = [(x - sign(x)) ** 2 for row in u for x in row]
    return (
        dpsh(u, y, 0.0, balanced)
        + class_weight * sum(errors) / len(errors)
        + ridge_weight * sum(a * a for w in W for a in w)
        + quantization_weight * sum(squares) / len(squares)
    )


def bi_half(u):
    """Columns one by one: the larger half is +1, of equal values the first rows."""
    codes = [[-1.0] * len(u[0]) for _ in u]
    for k in range(len(u[0])):
        order = sorted(range(len(u)), key=lambda i, k=k: (-u[i][k], i))
        for i in order[: len(u) // 2]:
            codes[i][k] = 1.0
    return codes


def codebook_best_distance(chosen, bits):
    """Largest possible distance of one more code to the closest chosen one."""
    best = 0
    for word in range(2**bits):
        code = [1.0 if word >> k & 1 else -1.0 for k in range(bits)]
        nearest = min(sum(a != b for a, b in zip(code, c, strict=True)) for c in chosen)
        best = max(best, nearest)
    return best


def codebook_sylvester(bits):
    """H[i][j] = -1 to the number of common ones of i and j in binary."""
    return [[(-1.0) ** bin(i & j).count("1") for j in range(bits)] for i in range(bits)]


def pair_loss_jaccard(y, z):
    """Class ids: equality. Multi-hot rows: shared labels over labels of either."""
    if not isinstance(y, list):
        return 1.0 if y == z else 0.0
    both = sum(1 for a, b in zip(y, z, strict=True) if a and b)
    either = sum(1 for a, b in zip(y, z, strict=True) if a or b)
    return both / either if either else 0.0


def pair_loss_mean(y, pair_loss, balanced):
    """Mean of pair_loss(i, j, is_similar) over i != j, plain or half and half."""
    pos, neg = [], []
    for i in range(len(y)):
        for j in range(len(y)):
            if i != j:
                s = similar(y[i], y[j])
                (pos if s else neg).append(pair_loss(i, j, s))
    if balanced:
        return 0.5 * (sum(pos) / max(len(pos), 1) + sum(neg) / max(len(neg), 1))
    return sum(pos + neg) / max(len(pos + neg), 1)


def dsh(u, y, margin, quantization_weight, balanced, sum_bits):
    bits = len(u[0])

    def pair_loss(i, j, s):
        d = sum((a - b) ** 2 for a, b in zip(u[i], u[j], strict=True)) / bits
        return 0.5 * (d if s else max(0.0, margin - d))

    pull = sum(abs(abs(x) - 1) for row in u for x in row) / (len(u) * bits)
    loss = pair_loss_mean(y, pair_loss, balanced) + quantization_weight * pull
    return bits * loss if sum_bits else loss


def dhn(u, y, quantization_weight, balanced, graded):
    def pair_loss(i, j, s):
        theta = 0.5 * dot(u[i], u[j])
        target = pair_loss_jaccard(y[i], y[j]) if graded else float(s)
        return softplus(theta) - target * theta

    pull = [math.log(math.cosh(abs(x) - 1)) for row in u for x in row]
    return pair_loss_mean(y, pair_loss, balanced) + (
        quantization_weight * sum(pull) / len(pull)
    )


def hashnet(u, y, alpha, beta, balanced, graded):
    bits = len(u[0])
    h = [[math.tanh(beta * x) for x in row] for row in u]

    def pair_loss(i, j, s):
        theta = alpha * dot(h[i], h[j]) / bits
        weight = pair_loss_jaccard(y[i], y[j]) if graded and s else 1.0
        return weight * (softplus(theta) - float(s) * theta)

    return pair_loss_mean(y, pair_loss, balanced)


def dtsh(u, y, margin, quantization_weight):
    bits, by_anchor = len(u[0]), []
    for i in range(len(u)):
        terms = []
        for p in range(len(u)):
            for n in range(len(u)):
                if p != i and similar(y[i], y[p]) and n != i and not similar(y[i], y[n]):
                    nearer = 0.5 * dot(u[i], u[p]) - 0.5 * dot(u[i], u[n])
                    terms.append(softplus(margin * bits - nearer))
        if terms:
            by_anchor.append(sum(terms) / len(terms))
    if not by_anchor:
        return 0.0
    pull = [(x - sign(x)) ** 2 for row in u for x in row]
    return sum(by_anchor) / len(by_anchor) + quantization_weight * sum(pull) / len(pull)


def dfh_solve(matrix, right):
    """Gaussian elimination with pivoting: matrix x = right, lists of lists and a list."""
    rows = [[*row, r] for row, r in zip(matrix, right, strict=True)]
    for k in range(len(rows)):
        best = max(range(k, len(rows)), key=lambda i: abs(rows[i][k]))
        rows[k], rows[best] = rows[best], rows[k]
        for i in range(k + 1, len(rows)):
            factor = rows[i][k] / rows[k][k]
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
    x = [0.0] * len(rows)
    for k in reversed(range(len(rows))):
        known = sum(rows[k][j] * x[j] for j in range(k + 1, len(rows)))
        x[k] = (rows[k][-1] - known) / rows[k][k]
    return x


def dfh_codes(u, y, center_weight, separation_weight):
    """Target codes b, from the normal equations of the classes in the batch."""
    if isinstance(y[0], list):
        present = [c for c in range(len(y[0])) if any(row[c] for row in y)]
        share = [[row[c] / max(sum(row), 1) for c in present] for row in y]
    else:
        present = sorted(set(y))
        share = [[1.0 if row == c else 0.0 for c in present] for row in y]
    classes, items, bits = range(len(present)), range(len(u)), len(u[0])
    gram = [
        [
            sum(share[i][a] * share[i][b] for i in items)
            + separation_weight
            + (0.01 if a == b else 0.0)
            for b in classes
        ]
        for a in classes
    ]
    codes = [[0.0] * bits for _ in items]
    for k in range(bits):
        cut = [min(1.0, max(-1.0, u[i][k])) for i in items]
        right = [sum(share[i][a] * cut[i] for i in items) for a in classes]
        centers = [sign(v) for v in dfh_solve(gram, right)] if present else []
        for i in items:
            pull = sum(share[i][a] * centers[a] for a in classes)
            codes[i][k] = sign(center_weight * pull + u[i][k])
    return codes


def dfh(u, y, margin, weights, balanced, graded):
    """Weights: quantization, center, separation."""
    quantization_weight, center_weight, separation_weight = weights
    m = margin * len(u[0])

    def pair_loss(i, j, s):
        theta = 0.5 * dot(u[i], u[j])
        target = pair_loss_jaccard(y[i], y[j]) if graded else float(s)
        return target * softplus(m - theta) + (1 - target) * softplus(m + theta)

    codes = dfh_codes(u, y, center_weight, separation_weight)
    pull = [
        (x - b) ** 2
        for row, code in zip(u, codes, strict=True)
        for x, b in zip(row, code, strict=True)
    ]
    return pair_loss_mean(y, pair_loss, balanced) + (
        quantization_weight * sum(pull) / len(pull)
    )


def soft_histogram_code(row, sharpness, keep_codes):
    if not keep_codes:
        return [math.tanh(sharpness * x) for x in row]
    scale = math.tanh(sharpness)
    return [
        math.tanh(sharpness * x) / scale if abs(x) < 1 else math.copysign(1.0, x)
        for x in row
    ]


def soft_histogram(u, y, i, bins, sharpness, keep_codes):
    """Anchor i: counts by bin of its similar and of its dissimilar items."""
    bits = len(u[0])
    width = bits / bins
    counts = {True: [0.0] * (bins + 1), False: [0.0] * (bins + 1)}
    mine = soft_histogram_code(u[i], sharpness, keep_codes)
    for j in range(len(u)):
        if j == i:
            continue
        theirs = soft_histogram_code(u[j], sharpness, keep_codes)
        distance = min(float(bits), max(0.0, 0.5 * (bits - dot(mine, theirs))))
        for c in range(bins + 1):
            counts[similar(y[i], y[j])][c] += max(0, 1 - abs(distance - c * width) / width)
    return counts[True], counts[False]


def mihash(u, y, bins, sharpness, keep_codes):
    """Entropies of the distance, H(D) - H(D | S), in bits."""

    def entropy(counts):
        n = sum(counts)
        return -sum(c / n * math.log2(c / n) for c in counts if c > 0)

    information = []
    for i in range(len(u)):
        pos, neg = soft_histogram(u, y, i, bins, sharpness, keep_codes)
        n_pos = sum(1 for j in range(len(u)) if j != i and similar(y[i], y[j]))
        n_neg = len(u) - 1 - n_pos
        if n_pos and n_neg:
            both = [a + b for a, b in zip(pos, neg, strict=True)]
            share = n_pos / (n_pos + n_neg)
            conditional = share * entropy(pos) + (1 - share) * entropy(neg)
            information.append(entropy(both) - conditional)
    return -sum(information) / max(len(information), 1)


def tie_aware_ap_digamma(x):
    """Shifted beyond 30 by the recurrence, then the asymptotic series."""
    shift = 0.0
    while x < 30:
        shift -= 1 / x
        x += 1
    series = 1 / (12 * x**2) - 1 / (120 * x**4) + 1 / (252 * x**6) - 1 / (240 * x**8)
    return shift + math.log(x) - 1 / (2 * x) - series


def tie_aware_ap_of_bins(hits, items, simplified):
    """One anchor: soft counts, nearest bin first -> AP."""
    total = before = hits_before = 0.0
    for h, n in zip(hits, items, strict=True):
        if simplified:
            total += h * (2 * hits_before + h + 1) / (2 * before + n + 1)
        elif n > 0:
            a = tie_aware_ap_digamma(before + n + 1) - tie_aware_ap_digamma(before + 1)
            a /= n
            # At n = 1 the fraction is 0 / 0: take the limit from beside it.
            off = n - 1 if abs(n - 1) > 1e-5 else 1e-5
            q = (1 - (before + 1) * a) / off
            total += h * ((hits_before + 1) * a + (h - 1) * q)
        before += n
        hits_before += h
    return total / hits_before


def tie_aware_ap(u, y, bins, sharpness, keep_codes, simplified):
    averages = []
    for i in range(len(u)):
        if any(similar(y[i], y[j]) for j in range(len(u)) if j != i):
            pos, neg = soft_histogram(u, y, i, bins, sharpness, keep_codes)
            items = [a + b for a, b in zip(pos, neg, strict=True)]
            averages.append(1 - tie_aware_ap_of_bins(pos, items, simplified))
    return sum(averages) / max(len(averages), 1)


def tie_aware_ap_permutations(codes, y):
    """Codes of ±1: 1 - AP, averaged over every order of the others that their distances
    allow, then over the anchors that have a similar item."""
    averages = []
    for i in range(len(codes)):
        others = [j for j in range(len(codes)) if j != i]
        relevant = {j for j in others if similar(y[i], y[j])}
        if not relevant:
            continue
        distance = {
            j: sum(a != b for a, b in zip(codes[i], codes[j], strict=True)) for j in others
        }
        scores = []
        for order in itertools.permutations(others):
            ranked = [distance[j] for j in order]
            if ranked == sorted(ranked):
                found, score = 0, 0.0
                for rank, j in enumerate(order, start=1):
                    if j in relevant:
                        found += 1
                        score += found / rank
                scores.append(score / len(relevant))
        averages.append(1 - sum(scores) / len(scores))
    return sum(averages) / max(len(averages), 1)


def encoded_linear(rows, weight, bias):
    """Rows, weight, bias as lists -> packed bytes of sign(W x + b), first bit highest."""
    packed = []
    for x in rows:
        ones = [dot(w, x) + b >= 0 for w, b in zip(weight, bias, strict=True)]
        ones += [False] * (-len(ones) % 8)
        packed.append(
            [
                sum(2 ** (7 - j) for j in range(8) if ones[i + j])
                for i in range(0, len(ones), 8)
            ]
        )
    return packed


def hash_index_search(queries, codes, ids, k):
    """For each query the k smallest (differing bits, id); codes as lists of -1 and +1."""
    results = []
    for query in queries:
        pairs = []
        for code, name in zip(codes, ids, strict=True):
            different = 0
            for a, b in zip(query, code, strict=True):
                different += a != b
            pairs.append((different, name))
        results.append(sorted(pairs)[:k])
    return results


def hash_index_asymmetric(queries, codes, ids, k):
    """For each real query the k smallest (sum of |u| over differing bits, id)."""
    results = []
    for query in queries:
        pairs = []
        for code, name in zip(codes, ids, strict=True):
            differing = [
                abs(u) for u, b in zip(query, code, strict=True) if (u >= 0) != (b > 0)
            ]
            pairs.append((math.fsum(differing), name))
        results.append(sorted(pairs)[:k])
    return results


def retrieval_reciprocal_rank(ranked):
    """Relevance in order of ranks -> 1 / rank of the first relevant item, NaN without."""
    for rank, relevant in enumerate(ranked, start=1):
        if relevant:
            return 1 / rank
    return math.nan


def retrieval_precision_at_k(ranked, k):
    if not any(ranked):
        return math.nan
    return sum(map(bool, ranked[:k])) / min(k, len(ranked))


def retrieval_recall_at_k(ranked, k):
    if not any(ranked):
        return math.nan
    return sum(map(bool, ranked[:k])) / sum(map(bool, ranked))


def retrieval_ball(items, hits, radius):
    """One query: items and hits at each distance -> precision, recall, F1 within radius."""
    near = sum(items[: radius + 1])
    found = sum(hits[: radius + 1])
    if sum(hits) == 0:
        return (0.0 if near == 0 else found / near), math.nan, math.nan
    precision = found / near if near else 0.0
    recall = found / sum(hits)
    if precision + recall == 0:
        return precision, recall, 0.0
    return precision, recall, 2 * precision * recall / (precision + recall)


def retrieval_conventional_ranking(q, y, r, z, own):
    """One query: relevance of items sorted by (distance, index), `own` left out."""
    order = sorted((hamming(q, r[n]), n) for n in range(len(r)) if n != own)
    return [similar(y, z[n]) for _, n in order]


def bit_statistics_entropy(codes, k):
    p = sum(1 for row in codes if row[k] > 0) / len(codes)
    return -sum(x * math.log2(x) for x in (p, 1 - p) if x > 0)


def bit_statistics_likelihood(codes, y, order, count):
    """Mean over `count` parts of an order of the importance of bits, weighted by items."""
    total, weight = [0.0] * len(codes[0]), 0
    for m in range(count):
        rows = [order[n] for n in range(m, len(codes), count)]
        pairs = [(i, j) for i in rows for j in rows if i != j]
        if len({similar(y[i], y[j]) for i, j in pairs}) < 2:
            continue
        mine = drop_one_importance([codes[i] for i in rows], [y[i] for i in rows], True)
        total = [t + len(rows) * v for t, v in zip(total, mine, strict=True)]
        weight += len(rows)
    return [t / max(weight, 1) for t in total]


def class_means(outputs, rows):
    """Mean sign of each output over the items of each class; 0 for a class of no item."""
    means = []
    for c in range(len(rows[0])):
        members = [u for u, y in zip(outputs, rows, strict=True) if y[c]]
        means.append(
            [
                sum(1 if u[k] >= 0 else -1 for u in members) / max(len(members), 1)
                for k in range(len(outputs[0]))
            ]
        )
    return means


def codeword_nll(outputs, targets, tanh):
    """Mean -log of the probability that a bit is that of the codeword."""
    total = 0.0
    for u, t in zip(outputs, targets, strict=True):
        for value, bit in zip(u, t, strict=True):
            p = 0.5 * (1 + bit * value) if tanh else 1 / (1 + math.exp(-2 * bit * value))
            total -= math.log(max(p, 1e-6) if tanh else p)
    return total / max(sum(len(u) for u in outputs), 1)


def class_nll(scores, y):
    """Mean cross-entropy of the classes of each item, which share its probability."""
    pairs = zip(scores, y, strict=True)
    total = sum(classwise_soft_ce(row, classwise_members(each)) for row, each in pairs)
    return total / max(len(scores), 1)


def softmax(row):
    top = max(row)
    total = sum(math.exp(z - top) for z in row)
    return [math.exp(z - top) / total for z in row]


def head_outputs(u, merges, scores, codewords, readout, tanh):
    """Neurons -> outputs of a head: merged, and the codewords of likely classes added.

    `merges` holds groups and weights of each merge; there are no codewords before one.
    """
    for groups, weights in merges:
        u = merged(u, groups, weights)
    bits = len(u[0])
    a = readout * math.sqrt(len(scores[0]) / bits) if merges else 0.0
    outputs = []
    for row, each in zip(u, scores, strict=True):
        p = softmax(each)
        out = []
        for k in range(bits):
            value = row[k]
            if merges:
                value += a * sum(p[c] * t[k] for c, t in enumerate(codewords))
            if tanh:
                value = math.tanh(value)
            out.append(value)
        outputs.append(out)
    return outputs


def solved(matrix, right):
    """x of matrix x = right, by elimination; the matrix is positive definite."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i, pivot in enumerate(rows):
        for other in rows[i + 1 :]:
            factor = other[i] / pivot[i]
            for j in range(i, len(pivot)):
                other[j] -= factor * pivot[j]
    x = [0.0] * len(rows)
    for i in reversed(range(len(rows))):
        known = sum(rows[i][j] * x[j] for j in range(i + 1, len(rows)))
        x[i] = (rows[i][-1] - known) / rows[i][i]
    return x


def label_map(codes, rows, ridge):
    """W (C, K): one ridge regression for each label."""
    n, bits, classes = max(len(codes), 1), len(codes[0]), len(rows[0])
    gram = [
        [sum(b[k] * b[m] for b in codes) / n + ridge * (k == m) for m in range(bits)]
        for k in range(bits)
    ]
    return [
        solved(
            gram,
            [
                sum(b[k] * y[c] for b, y in zip(codes, rows, strict=True)) / n
                for k in range(bits)
            ],
        )
        for c in range(classes)
    ]


def label_residual(codes, rows, ridge):
    """Mean squared distance between labels and what is read from the codes."""
    W = label_map(codes, rows, ridge)
    errors = [
        sum((y[c] - dot(w, b)) ** 2 for c, w in enumerate(W))
        for b, y in zip(codes, rows, strict=True)
    ]
    return sum(errors) / len(errors)


def ridge_in_groups(moment, agreement, groups, ridge):
    """Weights of bits, and what is left of the errors up to a constant."""
    weights, error = [0.0] * len(groups), 0.0
    for g in set(groups):
        members = [k for k, of in enumerate(groups) if of == g]
        system = [[moment[k][m] + ridge * (k == m) for m in members] for k in members]
        for k, w in zip(
            members, solved(system, [agreement[k][g] for k in members]), strict=True
        ):
            weights[k] = w
            error -= w * agreement[k][g]
    return weights, error


def histograms_without(q, q_labels, r, r_labels, left_out, own=None):
    """Grades of the items at each distance; `left_out(i, j)` names pairs that do not count.

    Labels are rows of 0 and 1, or class ids. `own(i)` is the item that query i is, or None.
    """
    bits = len(q[0])
    table = [[[] for _ in range(bits + 1)] for _ in q]
    for i in range(len(q)):
        for j in range(len(r)):
            if left_out(i, j) or (own is not None and own(i) == j):
                continue
            distance = sum(1 for a, b in zip(q[i], r[j], strict=True) if a != b)
            if isinstance(q_labels[i], list):
                both = zip(q_labels[i], r_labels[j], strict=True)
                grade = sum(1 for a, b in both if a and b)
            else:
                grade = int(q_labels[i] == r_labels[j])
            table[i][distance].append(grade)
    return table


def hit_rate(ranked, k):
    """Recall@K of one order: whether any of the first k is relevant; NaN without any."""
    if not any(ranked):
        return math.nan
    return float(any(ranked[:k]))


def cumulative_gain(ranked, k):
    """ACG@k of one order of grades; NaN without a relevant item."""
    if not any(ranked):
        return math.nan
    first = ranked[:k]
    return sum(first) / len(first)


def weighted_precision(ranked, k):
    """WAP@k of one order of grades: mean ACG at the hits among the first k."""
    if not any(ranked):
        return math.nan
    gains = [
        sum(ranked[: i + 1]) / (i + 1) for i, grade in enumerate(ranked[:k]) if grade > 0
    ]
    return sum(gains) / len(gains) if gains else 0.0
