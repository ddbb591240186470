"""What the page says of threads: searches side by side, changes one at a time."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from pml_nmlayer.codes import pack_codes
from pml_nmlayer.retrieval import HashIndex

from .hash_index_cases import filled, random_codes, shuffled_ids

KINDS = {
    "flat": {},
    "ivf": {"nlist": 4, "nprobe": 4},
    "hnsw": {"links": 8},
    "multihash": {"nhash": 2, "hash_bits": 4},
}


def test_searches_alone_do_not_damage_an_index_with_ids_out_of_order():
    codes, ids = random_codes(200, 16), shuffled_ids(200)
    packed = pack_codes(codes).numpy()
    expected = filled("flat", codes, ids).search(codes[:3], 5)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(300):
            index = HashIndex(16)
            for part in (slice(0, 90), slice(90, 91), slice(91, 200)):
                index.add(packed[part], ids[part])
            found = [
                pool.submit(call, *arguments)
                for call, *arguments in (
                    (index.search, codes[:3], 5),
                    (index.search, codes[:3], 5),
                    (index.codes_of, ids[:9]),
                    (index.search, codes[:3], 5),
                )
            ]
            results = [each.result() for each in found]
            assert torch.equal(results[2], pack_codes(codes[:9]))
            for result in (results[0], results[1], results[3], index.search(codes[:3], 5)):
                assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_searches_side_by_side_give_what_one_gives(kind):
    codes, queries = random_codes(500, 16), random_codes(50, 16, seed=1)
    index = filled(kind, codes, shuffled_ids(500), **KINDS[kind])
    expected = index.search(queries, 5)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: index.search(queries, 5), range(40)))
    for result in results:
        assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_changes_and_searches_at_the_same_time(kind):
    """Each id has one code, whenever it is there; a search never sees another one."""
    codes = random_codes(400, 32)
    packed = pack_codes(codes).numpy()
    index = HashIndex(32, kind, **KINDS[kind])
    if kind == "ivf":
        index.train(packed)

    def change(first):
        order = np.random.default_rng(first).permutation(100) + first
        for i in order:
            index.add(packed[i : i + 1], [i])
        for i in order[::2]:
            index.upsert(packed[i : i + 1], [i])
            index.remove([i])
        return None

    def look(_):
        distances, ids = index.search(codes[:20], 3)
        for query, ds, found in zip(codes[:20], distances, ids, strict=True):
            for d, i in zip(ds.tolist(), found.tolist(), strict=True):
                assert i == -1 or d == int((codes[i] != query).sum())
        return None

    with ThreadPoolExecutor(6) as pool:
        work = [pool.submit(change, first) for first in range(0, 400, 100)]
        work += [pool.submit(look, None) for _ in range(60)]
        for each in work:
            each.result()
    assert len(index) == 200
    look(None)
