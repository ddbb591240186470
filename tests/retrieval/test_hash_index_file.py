"""Index files: whole or absent, checked, and the same on the other side."""

import contextlib
import resource
import signal
import struct
import time
import zlib

import numpy as np
import pytest
import torch

from pml_nmlayer.retrieval import HashIndex
from tests.processes import exit_codes, start

from .hash_index_cases import clustered_codes, filled, random_codes, shuffled_ids

OPTIONS = {
    "flat": {},
    "ivf": {"nlist": 16, "nprobe": 3},
    "hnsw": {"links": 8, "ef_search": 20},
    "multihash": {"nhash": 3, "nflip": 2},
}


def same(one, two, queries):
    assert one.ids.tolist() == two.ids.tolist()
    for a, b in zip(one.search(queries, 7), two.search(queries, 7), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(
        one.range_search(queries, 5), two.range_search(queries, 5), strict=True
    ):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    u = queries * torch.rand(queries.shape, generator=torch.Generator().manual_seed(5))
    for a, b in zip(one.search_asymmetric(u, 3), two.search_asymmetric(u, 3), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("bits", [12, 64])
def test_round_trip(tmp_path, kind, bits):
    codes, queries = clustered_codes(800, bits), clustered_codes(30, bits, seed=1)
    index = filled(kind, codes, shuffled_ids(800), **OPTIONS[kind])
    if kind in ("flat", "ivf"):
        index.remove(index.ids[-5:])
    index.save(tmp_path / "index")
    loaded = HashIndex.load(str(tmp_path / "index"))
    assert repr(loaded) == repr(index)
    assert loaded.options == index.options
    same(loaded, index, queries)

    for each in (loaded, index):  # ids count on, and removed ones are not given again
        each.add(queries[:2])
    assert loaded.ids.max() == shuffled_ids(800).max() + 2
    assert not loaded.search(queries[:2], 1)[0].any()
    if kind != "hnsw":  # faiss starts the random levels of its graph again
        same(loaded, index, queries)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


@pytest.mark.parametrize("kind", OPTIONS)
def test_an_empty_index_can_be_kept(tmp_path, kind):
    index = HashIndex(16, kind, **OPTIONS[kind])
    if kind == "ivf":
        index.train(random_codes(99, 16))
    index.save(tmp_path / "index")
    loaded = HashIndex.load(tmp_path / "index", mmap=kind == "flat")
    assert loaded.search(random_codes(1, 16), 1)[1].tolist() == [[-1]]
    assert len(loaded) == 0


def test_memory_map(tmp_path):
    codes, queries = clustered_codes(3000, 24), clustered_codes(30, 24, seed=1)
    index = filled("flat", codes, shuffled_ids(3000))
    index.save(tmp_path / "index")
    mapped = HashIndex.load(tmp_path / "index", mmap=True)
    assert all(isinstance(array, np.memmap) for array in mapped._table.sorted())
    same(mapped, index, queries)
    assert isinstance(mapped._table.sorted()[1], np.memmap)  # still not read whole
    for change in (lambda: mapped.add(queries), lambda: mapped.remove([1000])):
        with pytest.raises(ValueError, match="read-only; load it with mmap=False"):
            change()

    mapped.save(tmp_path / "index")  # over its own file
    same(mapped, index, queries)
    same(HashIndex.load(tmp_path / "index"), index, queries)


def test_memory_map_is_for_flat(tmp_path):
    filled("hnsw", random_codes(9, 16)).save(tmp_path / "index")
    with pytest.raises(ValueError, match=r"kind 'flat', .* is of kind 'hnsw'"):
        HashIndex.load(tmp_path / "index", mmap=True)


@pytest.fixture
def content(tmp_path):
    filled("flat", random_codes(20, 16)).save(tmp_path / "whole")
    return (tmp_path / "whole").read_bytes()


def load(tmp_path, content, mmap=False):
    (tmp_path / "other").write_bytes(content)
    return HashIndex.load(tmp_path / "other", mmap=mmap)


@pytest.mark.parametrize("mmap", [False, True])
def test_a_truncated_file_is_refused(tmp_path, content, mmap):
    for length in {*range(8, len(content), 37), len(content) - 1}:
        with pytest.raises(ValueError, match="truncated"):
            load(tmp_path, content[:length], mmap)
    with pytest.raises(ValueError, match="truncated or damaged: expected"):
        load(tmp_path, content + b"\0", mmap)


@pytest.mark.parametrize(
    "foreign", [b"", b"P", b"PK\3\4 not ours", b"\x93NUMPY\1\0", b"IBxF" + bytes(99)]
)
def test_a_foreign_file_is_refused(tmp_path, foreign):
    with pytest.raises(ValueError, match=r"other is not a file that HashIndex.save wrote"):
        load(tmp_path, foreign)


def test_every_damaged_byte_is_noticed(tmp_path, content):
    """Padding before an array apart, which nothing reads."""
    unread = []
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 4
        with contextlib.suppress(ValueError):
            load(tmp_path, bytes(broken))
            unread.append(content[place])
    assert not any(unread)
    assert len(unread) < 128


def test_another_format_version_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="format version 2, this release reads version 1"):
        load(tmp_path, content[:8] + struct.pack("<I", 2) + content[12:])


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        HashIndex.load(tmp_path / "absent")


def test_the_documented_layout(tmp_path, content):
    magic, version, length, checksum = struct.unpack_from("<8sIII", content)
    assert (magic, version) == (b"\x93PMLHASH", 1)
    assert zlib.crc32(content[20 : 20 + length]) == checksum
    assert b'"kind": "flat"' in content[20 : 20 + length]


@pytest.mark.parametrize("broken", ["os.fsync", "os.replace"])
def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch, broken):
    index = filled("flat", random_codes(50, 16))
    index.save(tmp_path / "index")

    def fail(*args):
        raise OSError("no space left")

    larger = filled("flat", random_codes(90, 16))
    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        with pytest.raises(OSError, match="no space"):
            larger.save(tmp_path / "index")
    assert len(HashIndex.load(tmp_path / "index")) == 50
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def save_for_ever(path, limit=None):
    index = HashIndex(64)
    index.add(np.full((1_000_000, 8), 255, np.uint8))
    if limit:  # the kernel kills the process when its file reaches this size
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    while True:
        index.save(path)


def test_a_kill_in_the_middle_of_a_file_leaves_the_old_one(tmp_path):
    index = filled("flat", random_codes(50, 64))
    index.save(tmp_path / "index")
    before = (tmp_path / "index").read_bytes()
    process = start(save_for_ever, tmp_path / "index", 10_000_000)
    assert exit_codes(process) == [-signal.SIGXFSZ]
    assert (tmp_path / "index").read_bytes() == before
    (left,) = (path for path in tmp_path.iterdir() if path.name != "index")
    assert left.stat().st_size == 10_000_000  # it was killed while writing
    same(HashIndex.load(tmp_path / "index"), index, random_codes(5, 64))


def test_kills_at_any_moment_leave_a_whole_file(tmp_path):
    filled("flat", random_codes(50, 64)).save(tmp_path / "index")
    process = start(save_for_ever, tmp_path / "index")
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".index*.tmp")):
            assert time.monotonic() < deadline, "the process never saved"
    finally:
        process.kill()
        process.join()
    assert len(HashIndex.load(tmp_path / "index")) in (50, 1_000_000)
