"""Random sequences of calls against a dict and loops."""

import random

import numpy as np
import pytest
import torch

from pml_nmlayer.retrieval import HashIndex

from .hash_index_cases import NONE, random_codes

BITS = 12


class Model:
    """What an index must be: codes by id, as numbers; strings keep the order of adding."""

    def __init__(self, strings):
        self.strings = strings
        self.codes = {}
        self.order = {}  # ids that tie are returned in this order
        self.next_id = 0
        self.counter = 0

    def put(self, ids, codes):
        for i, code in zip(ids, codes, strict=True):
            if i not in self.codes:
                self.order[i] = self.counter if self.strings else i
                self.counter += 1
            self.codes[i] = int("".join("1" if bit > 0 else "0" for bit in code), 2)
            self.next_id = max(self.next_id, 0 if self.strings else i + 1)

    def nearest(self, query, k, allowed=None):
        number = int("".join("1" if bit > 0 else "0" for bit in query), 2)
        ids = self.codes if allowed is None else set(allowed)
        ranked = sorted(
            ((number ^ self.codes[i]).bit_count(), self.order[i], i) for i in ids
        )
        return [(d, i) for d, _, i in ranked[:k]]

    def within(self, query, radius):
        return [pair for pair in self.nearest(query, len(self.codes)) if pair[0] <= radius]


class Sequence:
    """One random sequence: an index and its model, changed alike."""

    def __init__(self, seed, folder):
        self.random = random.Random(seed)
        self.folder = folder
        kind = self.random.choice(["flat", "flat", "flat", "ivf"])
        self.options = {"nlist": 2, "nprobe": 2} if kind == "ivf" else {}
        self.model = Model(strings=self.random.random() < 0.3)
        self.index = self.empty(kind)

    def empty(self, kind):
        index = HashIndex(BITS, kind, **(self.options if kind == "ivf" else {}))
        if kind == "ivf":
            index.train(random_codes(9, BITS))
        return index

    def some_codes(self, n):
        # few different codes, so that there are ties
        return random_codes(n, BITS, seed=self.random.randrange(6))

    def new_ids(self, n):
        free = [self.named(i) for i in range(60)]
        free = [i for i in free if i not in self.model.codes]
        return self.random.sample(free, min(n, len(free)))

    def named(self, number):
        return f"item {number:02d}é" if self.model.strings else number

    def known_ids(self, n):
        known = sorted(self.model.codes)
        return self.random.sample(known, min(n, len(known)))

    def add(self):
        if not self.model.strings and self.random.random() < 0.3:
            codes = self.some_codes(self.random.randrange(4))
            ids = list(range(self.model.next_id, self.model.next_id + len(codes)))
            self.index.add(codes)
        else:
            ids = self.new_ids(self.random.randrange(5))
            codes = self.some_codes(len(ids))
            self.index.add(codes, np.array(ids) if ids and self.model.strings else ids)
        self.model.put(ids, codes.tolist())

    def upsert(self):
        ids = self.new_ids(self.random.randrange(3)) + self.known_ids(3)
        self.random.shuffle(ids)
        codes = self.some_codes(len(ids))
        self.index.upsert(codes, ids)
        self.model.put(ids, codes.tolist())

    def remove(self):
        ids = self.known_ids(self.random.randrange(6))
        self.index.remove(ids)
        for i in ids:
            del self.model.codes[i], self.model.order[i]

    def search(self):
        queries = self.some_codes(2)
        k = self.random.choice([1, 3, 70])
        allowed = self.known_ids(7) if self.random.random() < 0.5 else None
        distances, ids = self.index.search(queries, k, allowed=allowed)
        none = None if self.model.strings and self.model.codes else -1
        for query, ds, found in zip(
            queries.tolist(), distances.tolist(), ids.tolist(), strict=True
        ):
            expected = self.model.nearest(query, k, allowed)
            if self.index.kind == "ivf" and allowed is None:
                # of codes that tie at the k-th distance, any
                assert ds[: len(expected)] == [d for d, _ in expected]
                continue
            pairs = list(zip(ds, found, strict=True))
            assert pairs[: len(expected)] == expected
            rest = pairs[len(expected) :]
            assert all(d == NONE and i in (none, None, -1) for d, i in rest)

    def range_search(self):
        queries, radius = self.some_codes(2), self.random.randrange(6)
        distances, ids = self.index.range_search(queries, radius)
        for query, ds, found in zip(queries.tolist(), distances, ids, strict=True):
            pairs = list(zip(ds.tolist(), found.tolist(), strict=True))
            assert pairs == self.model.within(query, radius)

    def codes_of(self):
        ids = self.known_ids(4)
        packed = np.unpackbits(self.index.codes_of(ids).numpy(), axis=1, count=BITS)
        numbers = [int("".join(map(str, row)), 2) for row in packed.tolist()]
        assert numbers == [self.model.codes[i] for i in ids]

    def save_and_load(self):
        self.index.save(self.folder / "index")
        self.index = HashIndex.load(self.folder / "index")

    def merge(self):
        other = self.empty(self.random.choice(["flat", self.index.kind]))
        ids = self.new_ids(4)
        codes = self.some_codes(len(ids))
        other.add(codes, ids)
        self.index.merge(other)
        order = sorted(range(len(ids)), key=lambda i: i if self.model.strings else ids[i])
        self.model.put([ids[i] for i in order], codes[order].tolist())
        assert len(other) == len(ids)

    def clear(self):
        if self.random.random() < 0.2:
            self.index.clear()
            self.model = Model(self.model.strings)

    STEPS = ("add", "add", "upsert", "remove", "search", "range_search", "codes_of")
    RARE = ("save_and_load", "merge", "clear")

    def run(self, steps):
        for _ in range(steps):
            rare = self.random.random() < 0.15
            getattr(self, self.random.choice(self.RARE if rare else self.STEPS))()
            assert len(self.index) == len(self.model.codes)
        expected = sorted(self.model.codes, key=self.model.order.__getitem__)
        assert list(self.index.ids.tolist()) == expected
        self.search()


@pytest.mark.parametrize("part", range(5))
def test_a_hundred_random_sequences_equal_a_dict_and_loops(part, tmp_path, monkeypatch):
    # small, so that rows are sorted in and taken out between reads, too
    monkeypatch.setattr("pml_nmlayer.retrieval.code_table._WAITING", part * 3)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    for seed in range(100):
        Sequence(100 * part + seed, tmp_path).run(18)


@pytest.mark.parametrize("order", ["ascending", "shuffled"])
def test_changes_one_by_one_do_not_move_all_rows_each_time(order):
    index, table, count, moved = HashIndex(64), None, 10_000, 0
    table = index._table
    for name in ("_make_room", "_sort"):
        work = getattr(table, name)

        def counted(*args, work=work):
            nonlocal moved
            before = table._ids
            work(*args)
            moved += table._used if table._ids is not before else 0

        setattr(table, name, counted)
    code, ids = np.zeros((1, 8), np.uint8), np.arange(count)
    if order == "shuffled":
        ids = np.random.default_rng(0).permutation(count)
    for i in ids:
        index.add(code, [i])
    for i in ids[::2]:
        index.remove([i])
    assert moved < 10 * count
    assert torch.equal(index.ids, torch.from_numpy(np.sort(ids[1::2])))
