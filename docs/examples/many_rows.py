"""Many rows from a file that is not read as a whole: how long, and how much memory.

Give it a number of rows; the default takes seconds. It writes a file of 512 halves a row to
a temporary folder, fits 48 bits without labels, and encodes all rows.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pml_nmlayer import Hasher

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
BLOCK = 20_000

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "embeddings.npy"
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (ROWS, 512))
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, 512), dtype=np.float32)
    for start in range(0, ROWS, BLOCK):
        drawn = centres[rng.integers(0, 200, min(BLOCK, ROWS - start))]
        noise = 1.5 * rng.standard_normal(drawn.shape, dtype=np.float32)
        rows[start : start + BLOCK] = drawn + noise
    rows.flush()
    del rows

    mapped = np.load(path, mmap_mode="r")
    begin = time.perf_counter()
    hasher = Hasher(bits=48).fit(mapped)
    fitted = time.perf_counter()
    codes = hasher.encode(mapped)
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    print(f"{codes.shape[0]} rows, {codes.nbytes} bytes of codes")
    print(f"fit {fitted - begin:.0f} s, encode {done - fitted:.0f} s")
    print(f"peak memory {peak:.2f} GiB, pages of the mapped file included")
