"""Hundreds of damaged files of each format: refused, or loaded with the right content.

A file is damaged by one bit or byte that is changed, or by its end that is missing.
"""

import random
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from pml_nmlayer.hooks import load_checkpoint, save_checkpoint
from pml_nmlayer.retrieval import HashEncoder, HashIndex, code_file, read_codes

from .hash_index_cases import filled, random_codes, shuffled_ids

COUNT = 400
REFUSED = (ValueError, FileNotFoundError, FileExistsError)
MAPPED = {"mmap": True, "verify": True}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def damaged(content, number):
    """The same damage for the same number."""
    chance = random.Random(number)
    if chance.random() < 0.15:
        return content[: chance.randrange(len(content))]
    place, broken = chance.randrange(len(content)), bytearray(content)
    broken[place] ^= (
        chance.randrange(1, 256) if chance.random() < 0.5 else 1 << (number % 8)
    )
    return bytes(broken)


def outcomes(file, load, same):
    """Damage a file again and again; how often it was refused, and how often right."""
    content, refused = file.read_bytes(), 0
    for number in range(COUNT):
        file.write_bytes(damaged(content, number))
        try:
            found = load()
        except REFUSED:
            refused += 1
            continue
        assert same(found), f"number {number} was accepted and is wrong"
    file.write_bytes(content)
    return refused


def same_index(one, two, queries):
    if one.bits != two.bits or len(one) != len(two):
        return False
    if one.ids.tolist() != two.ids.tolist():
        return False
    pairs = zip(one.search(queries, 5), two.search(queries, 5), strict=True)
    return all(a.tolist() == b.tolist() for a, b in pairs)


@pytest.mark.parametrize(
    ("kind", "options", "how"),
    [
        ("flat", {}, {}),
        ("flat", {}, MAPPED),
        ("flat with strings", {}, {}),
        ("flat with strings", {}, MAPPED),
        ("ivf", {"nlist": 2, "nprobe": 2}, {}),
        ("hnsw", {"links": 2}, {}),
        ("multihash", {"nhash": 2, "hash_bits": 3}, {}),
    ],
    ids=["flat", "flat mapped", "strings", "strings mapped", "ivf", "hnsw", "multihash"],
)
def test_an_index(tmp_path, kind, options, how):
    ids = [f"{i}" for i in range(12)] if "strings" in kind else shuffled_ids(12)
    index = filled(kind.split()[0], random_codes(12, 12), ids, **options)
    index.save(tmp_path / "index")
    queries = random_codes(3, 12, seed=2)
    refused = outcomes(
        tmp_path / "index",
        lambda: HashIndex.load(tmp_path / "index", **how),
        lambda found: same_index(found, index, queries),
    )
    assert refused > 0.7 * COUNT


def encoder():
    torch.manual_seed(0)
    return HashEncoder(nn.Linear(3, 4), nn.Linear(4, 11), batch_size=8)


DATA = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["codes.npy", "codes.npy.json"])
@pytest.mark.parametrize("mmap", [True, False])
def test_codes_that_are_complete(tmp_path, name, mmap):
    path = encoder().encode_to_file(DATA, tmp_path / "codes.npy")
    right = np.load(path)

    def same(found):
        return np.array_equal(found.codes, right) and found.bits == 11 and not found.skipped

    refused = outcomes(
        tmp_path / name,
        lambda: read_codes(path, mmap=mmap, verify=True),
        same,
    )
    assert refused > 0.7 * COUNT


@pytest.mark.parametrize("name", ["codes.npy.partial", "codes.npy.json"])
def test_codes_on_their_way(tmp_path, name, monkeypatch):
    """A file that is gone on with, or an error; never other codes."""
    monkeypatch.setattr(code_file, "_RECORD_EVERY_S", 0)
    coder = encoder()
    right = coder.encode(DATA).numpy()

    class Failing:
        def __len__(self):
            return len(DATA)

        def __getitem__(self, i):
            if i == 24:
                raise OSError("the disk is gone")
            return DATA[i]

    begun, work = tmp_path / "begun", tmp_path / "work"
    begun.mkdir()
    with pytest.raises(OSError, match="disk is gone"):
        coder.encode_to_file(Failing(), begun / "codes.npy")
    content = (begun / name).read_bytes()
    refused = 0
    for number in range(100):
        shutil.copytree(begun, work)
        (work / name).write_bytes(damaged(content, number))
        try:
            coder.encode_to_file(DATA, work / "codes.npy")
        except REFUSED:
            refused += 1
        else:
            assert np.array_equal(np.load(work / "codes.npy"), right)
        shutil.rmtree(work)
    assert refused > 33


def test_a_checkpoint(tmp_path):
    path, model = tmp_path / "c.pt", nn.Linear(2, 2)
    save_checkpoint(path, model=model, epoch=3)
    right = {name: value.clone() for name, value in model.state_dict().items()}
    other = nn.Linear(2, 2)

    def load():
        nn.init.zeros_(other.weight)
        return load_checkpoint(path, model=other)

    def same(plain):
        state = other.state_dict()
        return plain == {"epoch": 3} and all(
            torch.equal(state[name], value) for name, value in right.items()
        )

    assert outcomes(path, load, same) > 0.3 * COUNT  # a third is padding


def test_a_checkpoint_to_serve(tmp_path):
    trunk, head = nn.Linear(2, 2), nn.Linear(2, 9)
    path, x = tmp_path / "m.pt", torch.randn(20, 2)
    torch.save({"trunk": trunk.state_dict(), "embedder": head.state_dict()}, path)
    right = HashEncoder(trunk, head).encode(x)
    outcomes(
        path,
        lambda: HashEncoder.from_checkpoint(nn.Linear(2, 2), nn.Linear(2, 9), path),
        lambda found: torch.equal(found.encode(x), right),
    )


@pytest.mark.parametrize("name", ["config.json", "head-*.safetensors"])
def test_a_pretrained_folder(tmp_path, name):
    torch.manual_seed(0)
    coder = HashEncoder(nn.Identity(), nn.Sequential(nn.Linear(3, 9), nn.Tanh()))
    coder.save_pretrained(tmp_path)
    right = coder.encode(DATA)
    (file,) = tmp_path.glob(name)
    refused = outcomes(
        file,
        lambda: HashEncoder.from_pretrained(tmp_path, nn.Identity()),
        lambda found: torch.equal(found.encode(DATA), right),
    )
    assert refused > 0.6 * COUNT
