"""Own embeddings without labels: hash, index, search and look.

Pixels of handwritten digits stand in for embeddings of a model of yours. The classes only
judge the result.
"""

import numpy as np
from sklearn.datasets import load_digits

from pml_nmlayer import Hasher, plots

digits = load_digits()
database, queries = digits.data[:1500], digits.data[1500:]

hasher = Hasher(bits=24, random_state=0).fit(database)
index = hasher.index(database)
distances, rows = index.search_asymmetric(hasher.outputs(queries), k=10)
rows = rows.numpy()
same = digits.target[rows] == digits.target[1500:, None]
print(f"{same.mean():.2f} of the first ten show the digit of the query")

shown = slice(0, 3)
ax = plots.neighbour_gallery(
    digits.images[1500:1503],
    hasher.encode(queries[shown]),
    digits.images[:1500],
    hasher.encode(database),
    rows[shown, :6],
    bits=24,
    same=same[shown, :6],
)
ax.figure.savefig("neighbours.png", dpi=100)
hasher.save("hasher")
assert np.array_equal(Hasher.load("hasher").encode(queries), hasher.encode(queries))
