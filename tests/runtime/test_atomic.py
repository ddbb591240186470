"""Files that are replaced whole: by several writers, over links, on a full disk."""

import multiprocessing
import os
import re
import resource
import stat
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from pml_nmlayer.hooks import load_checkpoint, save_checkpoint
from pml_nmlayer.retrieval import HashEncoder, HashIndex, export_onnx, export_program
from pml_nmlayer.runtime.atomic import atomic_write, replacing
from pml_nmlayer.runtime.locks import claimed
from tests.processes import exit_codes, start


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_two_writers_at_once_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "file.bin"
    with replacing(path) as first:
        first.write(b"first")
        with replacing(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
        assert len(names(tmp_path)) == 2  # the second did not take the first for abandoned
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file.bin"]


def die_while_writing(path):
    with replacing(path) as file:
        file.write(b"x")
        os._exit(9)


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    path = tmp_path / "file.bin"
    for _ in range(2):
        assert exit_codes(start(die_while_writing, path)) == [9]
    other = tmp_path / f".other.{'0' * 32}.bin.tmp"
    other.write_bytes(b"")
    assert len(list(tmp_path.glob(".file.*.bin.tmp"))) == 1  # of the second alone
    atomic_write(path, b"whole")
    assert names(tmp_path) == [other.name, "file.bin"]


def test_many_threads_write_one_checkpoint(tmp_path):
    path, model = tmp_path / "c.pt", nn.Linear(3, 3)
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(save_checkpoint, path, model=model, epoch=i) for i in range(120)
        ]
        for job in jobs:
            job.result()
    assert load_checkpoint(path, model=model)["epoch"] in range(120)
    assert names(tmp_path) == ["c.pt"]


def save_thirty_times(folder, seed, barrier):
    torch.manual_seed(seed)
    encoder = HashEncoder(nn.Identity(), nn.Linear(3, 9))
    barrier.wait(60)
    for _ in range(30):
        encoder.save_pretrained(folder)


def test_save_pretrained_from_two_processes_keeps_weights_and_config_together(tmp_path):
    barrier = multiprocessing.get_context("forkserver").Barrier(2)
    processes = [
        start(save_thirty_times, tmp_path / "encoder", seed, barrier) for seed in (1, 2)
    ]
    loads = 0
    while any(process.is_alive() for process in processes):
        if (tmp_path / "encoder" / "config.json").exists():
            HashEncoder.from_pretrained(tmp_path / "encoder", nn.Identity())
            loads += 1
        time.sleep(0.002)
    assert exit_codes(*processes) == [0, 0]
    assert loads
    HashEncoder.from_pretrained(tmp_path / "encoder", nn.Identity())
    assert len(names(tmp_path / "encoder")) == 3  # weights, config and model card


def writers(folder):
    """Every writer to one path, by name."""
    index = HashIndex(8)
    encoder = HashEncoder(nn.Identity(), nn.Linear(3, 9))
    return {
        "index": lambda: index.save(folder / "index"),
        "c.pt": lambda: save_checkpoint(folder / "c.pt", model=nn.Linear(2, 2)),
        "encoder/config.json": lambda: encoder.save_pretrained(folder / "encoder"),
    }


@pytest.mark.parametrize("name", ["index", "c.pt", "encoder/config.json"])
def test_mode_and_link_survive_an_overwrite(tmp_path, name):
    write = writers(tmp_path)[name]
    write()
    path, elsewhere = tmp_path / name, tmp_path / "elsewhere"
    path.chmod(0o640)
    write()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = elsewhere.stat().st_ino
    write()
    assert path.is_symlink()
    assert elsewhere.stat().st_ino != before
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o640


def test_a_new_file_has_the_mode_of_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        atomic_write(tmp_path / "file", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize("kind", ["folder", "fifo", "no folder", "dangling"])
def test_what_cannot_be_replaced(tmp_path, kind):
    path = tmp_path / "thing"
    if kind == "folder":
        path.mkdir()
        expected = (IsADirectoryError, "a folder has this name")
    elif kind == "fifo":
        os.mkfifo(path)
        expected = (OSError, "no regular file")
    elif kind == "no folder":
        path = tmp_path / "absent" / "thing"
        expected = (FileNotFoundError, "there is no folder .*absent; make it first")
    else:
        path.symlink_to(tmp_path / "later")
        atomic_write(path, b"x")
        assert (tmp_path / "later").read_bytes() == b"x"
        return
    with pytest.raises(expected[0], match=expected[1]):
        atomic_write(path, b"x")


def write_on_a_full_disk(folder):
    warnings.simplefilter("ignore")
    encoder = HashEncoder(nn.Identity(), nn.Linear(300, 200))
    x, index = torch.randn(2, 300), HashIndex(64)
    index.add(torch.ones(9000, 64))
    limit = 20_000  # bytes a file, like a disk that is full
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    work = {
        "index": index.save,
        "checkpoint": lambda path: save_checkpoint(path, model=encoder.head),
        "program": lambda path: export_program(encoder, x, path),
        "onnx": lambda path: export_onnx(encoder, x, path),
        "pretrained": lambda path: encoder.save_pretrained(path.parent),
        "codes": lambda path: encoder.encode_to_file(torch.randn(2000, 300), path),
    }
    for kind, write in work.items():
        try:
            write(folder / kind / "file")
        except OSError as error:
            (folder / f"{kind}.txt").write_text(str(error))


def test_a_full_disk_says_so_and_keeps_the_old_file(tmp_path):
    kinds = ["index", "checkpoint", "program", "onnx", "pretrained", "codes"]
    for kind in kinds:
        (tmp_path / kind).mkdir()
        if kind != "codes":
            (tmp_path / kind / "file").write_bytes(b"old")
    assert exit_codes(start(write_on_a_full_disk, tmp_path)) == [0]
    for kind in kinds:
        said = (tmp_path / f"{kind}.txt").read_text()
        assert re.search(r"File too large: (could not write|no room for)", said), kind
        assert names(tmp_path / kind) == ([] if kind == "codes" else ["file"])
        if kind != "codes":
            assert (tmp_path / kind / "file").read_bytes() == b"old"


def test_a_write_that_failed_is_not_the_last_word(tmp_path):
    """The library that writes is told that all is well, and the error comes at the end."""

    class Full:
        def write(self, content):
            raise OSError(28, "No space left on device")

    def write():
        with replacing(tmp_path / "file") as file:
            file._file = Full()
            assert file.write(b"abc") == 3
            assert file.write(memoryview(b"de")) == 2
            assert file.tell() == 5

    with pytest.raises(OSError, match=r"No space left on device: could not .*nothing"):
        write()
    assert names(tmp_path) == []


def test_a_claim_is_refused_and_comes_back(tmp_path):
    lock = tmp_path / "file.lock"
    with claimed(lock, "encoding to file"):
        with pytest.raises(BlockingIOError, match="another process or thread is encoding"):
            with claimed(lock, "encoding to file"):
                pass
        assert lock.exists()
    assert not lock.exists()
    lock.touch()  # left by a kill
    with claimed(lock, "encoding to file"):
        pass
    assert names(tmp_path) == []


def test_two_models_that_encode_to_one_path_do_not_mix(tmp_path):
    """The second one is refused while the first is at it, and afterwards, too."""
    gate, go_on = threading.Event(), threading.Event()

    class Slow:
        def __len__(self):
            return 40

        def __getitem__(self, i):
            if i == 20:
                gate.set()
                go_on.wait(30)
            return torch.full((3,), float(i) - 20)

    torch.manual_seed(0)
    one, two = (HashEncoder(nn.Identity(), nn.Linear(3, 16), batch_size=4) for _ in "ab")
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(one.encode_to_file, Slow(), tmp_path / "codes.npy")
        gate.wait(30)
        for encoder in (one, two):
            with pytest.raises(BlockingIOError, match=r"encoding to .*codes.npy now"):
                encoder.encode_to_file(Slow(), tmp_path / "codes.npy")
        go_on.set()
        job.result()
    with pytest.raises(ValueError, match="model: "):
        two.encode_to_file(Slow(), tmp_path / "codes.npy")
    one.encode_to_file(Slow(), tmp_path / "codes.npy")
    assert names(tmp_path) == ["codes.npy", "codes.npy.json"]
