"""Files whose checksums are right and whose content is not what save writes."""

import json
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from torch import nn

from pml_nmlayer.retrieval import HashEncoder, HashIndex

from .hash_index_cases import filled, random_codes


def craft(path, change, arrays=None):
    """Write a file like `save` does, with another header or other arrays."""
    ids, codes = np.arange(6), np.zeros((6, 4), np.uint8)
    arrays = {"ids": ids, "codes": codes} if arrays is None else arrays
    about = {
        name: {
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "crc32": zlib.crc32(array.tobytes()),
            "offset": 0,
        }
        for name, array in arrays.items()
    }
    header = {"bits": 12, "kind": "flat", "options": {}, "next_id": 6, "arrays": about}
    offset = -(-(20 + 2000) // 64) * 64
    for name, array in arrays.items():
        about[name]["offset"] = offset
        offset = -(-(offset + array.nbytes) // 64) * 64
    offsets = {name: about[name]["offset"] for name in arrays}
    change(header)
    text = json.dumps(header).encode().ljust(2000)
    content = struct.pack("<8sIII", b"\x93PMLHASH", 1, len(text), zlib.crc32(text)) + text
    for name, array in arrays.items():
        content = content.ljust(offsets[name], b"\0") + array.tobytes()
    path.write_bytes(content)


def entry(name, **values):
    return lambda header: header["arrays"][name].update(values)


def top(**values):
    return lambda header: header.update(values)


def ids(*values):
    return {"ids": np.array(values), "codes": np.zeros((len(values), 4), np.uint8)}


CRAFTED = {
    "objects": (entry("ids", dtype="|O"), None, r"ids must be <i8 with 1 dimensions"),
    "strings": (entry("codes", dtype="|S1"), None, r"codes must be \|u1"),
    "big endian": (entry("ids", dtype=">i8"), None, "ids must be <i8"),
    "a structure": (entry("ids", dtype=[["a", "<i8"]]), None, "ids must be <i8"),
    "a huge array": (entry("codes", shape=[2**60, 4]), None, "truncated or damaged"),
    "an overflow": (entry("codes", shape=[2**61, 2**61]), None, "truncated or damaged"),
    "negative": (entry("codes", shape=[-1, 4]), None, "codes must be"),
    "a fraction": (entry("codes", shape=[1.5, 4]), None, "codes must be"),
    "one dimension": (entry("codes", shape=[24]), None, "with 2 dimensions"),
    "elsewhere": (entry("ids", offset=0), None, "ids are out of place"),
    "beyond": (entry("codes", offset=2**40), None, "codes are out of place"),
    "no offset": (entry("codes", offset=None), None, "codes must be"),
    "another array": (lambda h: h["arrays"].update(more={}), None, "holds the arrays"),
    "no codes": (lambda h: h["arrays"].pop("codes"), None, "holds the arrays"),
    "no arrays": (top(arrays=[]), None, "describes no arrays"),
    "no entry": (lambda h: h["arrays"].update(codes=3), None, "codes must be"),
    "fewer codes": (
        top(),
        {"ids": np.arange(6), "codes": np.zeros((5, 4), np.uint8)},
        r"must have shape \(6, 4\)",
    ),
    "wider codes": (
        top(),
        {"ids": np.arange(6), "codes": np.zeros((6, 8), np.uint8)},
        r"must have shape \(6, 4\)",
    ),
    "bits beyond": (
        top(),
        {"ids": np.arange(6), "codes": np.full((6, 4), 255, np.uint8)},
        "bits set beyond the first 12",
    ),
    "repeated ids": (top(), ids(0, 1, 1, 2, 3, 4), "ids do not ascend"),
    "unordered ids": (top(), ids(0, 2, 1, 3, 4, 5), "ids do not ascend"),
    "negative ids": (top(), ids(-1, 2, 3, 4, 5, 6), "ids do not ascend"),
    "next id": (top(next_id=3), None, "next_id must be at least 6, got 3"),
    "bool": (top(next_id=True), None, "next_id must be a whole number"),
    "many bits": (top(bits=10**12), None, "bits must be at most"),
    "no bits": (top(bits=None), None, "bits must be a whole number"),
    "kind": (top(kind="tree"), None, "kind must be one of"),
    "a list as kind": (top(kind=["flat"]), None, "damaged"),
    "options": (top(options={"nlist": 3}), None, "has no option nlist"),
    "no options": (top(options=3), None, "damaged"),
    "more": (top(more=3), None, "it tells"),
    "an engine": (
        top(),
        {**ids(0, 1), "engine": np.zeros(9, np.uint8)},
        "arrays do not fit kind 'flat'",
    ),
    "no engine": (
        top(kind="hnsw", options={"links": 2, "ef_construction": 9, "ef_search": 9}),
        None,
        "arrays do not fit kind 'hnsw'",
    ),
    "many cells": (
        top(kind="ivf", options={"nlist": 2**24, "nprobe": 1}),
        {**ids(0, 1), "engine": np.zeros(9, np.uint8)},
        "engine is smaller than nlist says",
    ),
    "too many cells": (
        top(kind="ivf", options={"nlist": 2**40, "nprobe": 1}),
        {**ids(0, 1), "engine": np.zeros(9, np.uint8)},
        "nlist must be at most",
    ),
    "no faiss": (
        top(kind="ivf", options={"nlist": 1, "nprobe": 1}),
        {**ids(0, 1), "engine": np.zeros(99, np.uint8)},
        "damaged",
    ),
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_index_is_refused_before_memory_is_taken(tmp_path, name, mmap):
    change, arrays, message = CRAFTED[name]
    craft(tmp_path / "index", change, arrays)
    if mmap and name == "bits beyond":
        return  # codes are read with verify=True alone; no memory is at risk
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            HashIndex.load(tmp_path / "index", mmap=mmap)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_the_crafting_itself_can_be_right(tmp_path):
    craft(tmp_path / "index", top())
    assert len(HashIndex.load(tmp_path / "index")) == 6


@pytest.mark.parametrize("name", ["nlist", "d", "ids", "type"])
def test_an_engine_of_another_index_is_refused(tmp_path, name):
    codes = random_codes(40, 12)
    index = filled("ivf", codes, nlist=4, nprobe=2)
    if name == "type":
        index._engine = filled("hnsw", codes)._engine
    elif name == "ids":
        index._engine = filled(
            "ivf", codes, torch.arange(40) + 1, nlist=4, nprobe=2
        )._engine
    elif name == "d":
        index._engine = filled("ivf", random_codes(40, 64), nlist=4, nprobe=2)._engine
    else:
        index._engine = filled("ivf", codes, nlist=5, nprobe=2)._engine
    index.save(tmp_path / "index")
    with pytest.raises(ValueError, match=f"its engine has .*{name}"):
        HashIndex.load(tmp_path / "index")


def fifo(path):
    os.mkfifo(path)


@pytest.mark.parametrize("make", [fifo, os.mkdir], ids=["fifo", "folder"])
def test_what_is_no_regular_file_is_not_opened(tmp_path, make):
    make(tmp_path / "index")
    with pytest.raises(ValueError, match="not a regular file"):
        HashIndex.load(tmp_path / "index")


@pytest.fixture
def folder(tmp_path):
    HashEncoder(nn.Identity(), nn.Linear(3, 9)).save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def rewrite(folder, **values):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    del config["config_sha256"]  # as of version 0.1.0
    file.write_text(json.dumps({**config, **values}))


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "/etc/passwd",
        "head-0.safetensors",
        "sub/head-0123456789abcdef.safetensors",
        3,
        None,
        ["x"],
        "",
    ],
)
def test_weights_never_leave_the_folder(folder, name):
    rewrite(folder, weights=name)
    with pytest.raises(ValueError, match=r"names the weights .*in the same folder"):
        HashEncoder.from_pretrained(folder, nn.Identity())


def test_weights_are_a_regular_file(folder):
    (weights,) = folder.glob("head-*")
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(ValueError, match="is no regular file"):
        HashEncoder.from_pretrained(folder, nn.Identity())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"type": "Linear", "in_features": 2**20, "out_features": 2**20}], "do not fit"),
        (
            [{"type": "Linear", "in_features": 2**40, "out_features": 1}],
            "wrong description",
        ),
        ([{"type": "Linear", "in_features": True, "out_features": 9}], "wrong description"),
        ([{"type": "Linear", "in_features": 3.0, "out_features": 9}], "wrong description"),
        ([{"type": "Linear", "in_features": -3, "out_features": 9}], "wrong description"),
        ("Linear", "has no list of layers"),
        ([3], "must be described by a dict"),
    ],
)
def test_layers_are_compared_with_the_weights_before_they_are_made(folder, layers, message):
    rewrite(folder, layers=layers)
    with pytest.raises(ValueError, match=message):
        HashEncoder.from_pretrained(folder, nn.Identity())
