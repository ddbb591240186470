"""Codes or product quantization: what you want found decides.

Two questions at equal bytes. How many of the ten nearest embeddings are found again? How
many of the first ten share the query's class? Nothing learns from labels.

Give it an .npz with `features` and `labels`; without one it takes handwritten digits.
"""

import sys

import faiss
import numpy as np
from sklearn.datasets import load_digits

from pml_nmlayer import Hasher


def compare(features, labels, sizes=(48, 128)):
    """Return recall of the nearest ten, and precision at ten, by bits and method."""
    x = np.ascontiguousarray(features, dtype=np.float32)
    x = x - x.mean(0)
    x = np.pad(x, ((0, 0), (0, -x.shape[1] % 48)))  # PQ cuts rows into equal parts
    faiss.normalize_L2(x)
    order = np.random.RandomState(0).permutation(len(x))
    query, base = order[:500], order[500:]
    exact = faiss.IndexFlatIP(x.shape[1])
    exact.add(x[base])
    nearest = exact.search(x[query], 10)[1]
    figures = {}
    for bits in sizes:
        pq = faiss.IndexPQ(x.shape[1], bits // 8, 8)
        pq.train(x[base])
        pq.add(x[base])
        hasher = Hasher(bits=bits, random_state=0).fit(x[base])
        index = hasher.index(x[base])
        found = {
            "PQ": pq.search(x[query], 10)[1],
            "Hasher": index.search_asymmetric(
                hasher.outputs(x[query]), 10, candidates=1000
            )[1].numpy(),
        }
        for name, rows in found.items():
            again = [len(np.intersect1d(a, b)) for a, b in zip(rows, nearest, strict=True)]
            same = labels[base][rows] == labels[query][:, None]
            figures[bits, name] = np.mean(again) / 10, same.mean()
    same = labels[base][nearest] == labels[query][:, None]
    figures["floats", "exact"] = 1.0, same.mean()
    return figures


if __name__ == "__main__":
    if len(sys.argv) > 1:
        data = np.load(sys.argv[1])
        figures = compare(data["features"], data["labels"])
    else:
        digits = load_digits()
        figures = compare(digits.data, digits.target, sizes=(16,))
    print("bits, method: nearest ten found again, same class among the first ten")
    for (bits, name), (recall, precision) in figures.items():
        print(f"{bits}, {name}: {recall:.2f}, {precision:.2f}")
