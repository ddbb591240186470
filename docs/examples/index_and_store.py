"""Index and store: search in memory, from a file, and in SQLite.

All three find the same items at the same distances.
"""

import sqlite3

from sklearn.datasets import load_digits

from pml_nmlayer import Hasher, HashIndex
from pml_nmlayer.retrieval import codes_to_words

x = load_digits().data
hasher = Hasher(bits=48, random_state=0).fit(x[:1500])
index = hasher.index(x[:1500], ids=range(1500))
query = hasher.encode(x[1500:1501])
distances, ids = index.search(query, k=5)
print("memory:", list(zip(distances[0].tolist(), ids[0].tolist(), strict=True)))

index.save("codes.index")
shared = HashIndex.load("codes.index", mmap=True)  # codes stay on the disk
again, same = shared.search(query, k=5)
assert again.tolist() == distances.tolist()
assert same.tolist() == ids.tolist()

database, asked = hasher.encode(x[:1500]), query
words = codes_to_words(database, 48, signed=True)[:, 0].tolist()
word = codes_to_words(asked, 48, signed=True)[0, 0].item()
db = sqlite3.connect("codes.db")
db.create_function("hamming", 2, lambda a, b: ((a ^ b) & (2**64 - 1)).bit_count())
db.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, code INTEGER)")
db.executemany("INSERT INTO items VALUES (?, ?)", enumerate(words))
nearest = "SELECT hamming(code, ?) AS d, id FROM items ORDER BY d, id LIMIT 5"
found = db.execute(nearest, [word]).fetchall()
db.close()
print("SQLite:", found)
assert found == list(zip(distances[0].tolist(), ids[0].tolist(), strict=True))
