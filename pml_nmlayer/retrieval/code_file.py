"""Packed codes on their way into a .npy file: resumable, and shared by processes.

For a file `codes.npy` these lie beside it until it is complete:
    codes.npy.partial     the array, memory-mapped; rows beyond the recorded ones are unset
    codes.npy.json        what is being written, and how many rows are done
    codes.npy.1.partial, codes.npy.1.json, ...    the same of process 1, ...: its rows alone
Process 0 joins the parts, then renames; its .json stays. Each file is written by a single
process, so that they may lie on a file system that several nodes share.
"""

import errno
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..runtime.process_group import rank_and_size, together
from .code_record import Facts, beside, check_same, differences, read_record, write_record

CodesFrom = Callable[[int, int], Iterator[Tensor]]

_FORMAT = "pml_nmlayer codes 1"
_HOW = ("processes", "batch_size")  # who encoded, which does not matter in the end
_RECORD_EVERY_S = 1.0  # what a kill costs at most, besides the batch in hand


def write_codes(
    path: Path, describe: Callable[[], Facts], batch_size: int, codes_from: CodesFrom
) -> None:
    """Write all rows, or those that an earlier call left over.

    Every process of a group has to call it; each takes whole batches, so that these are
    those of a single process.

    Args:
        path: the .npy file; it appears only when it is complete.
        describe: gives "rows", "bits" and whatever else decides what the codes are.
        batch_size: rows a batch.
        codes_from: yields the packed codes of rows first..stop-1, in batches, on the CPU.

    Raises:
        ValueError: the files beside `path` were begun for something else, or are damaged.
        FileExistsError: `path` exists and was not written here.
        RuntimeError: another process failed.
    """
    rank, size = rank_and_size()
    # With several processes the batch size decides who writes what.
    how = {"processes": size, "batch_size": batch_size if size > 1 else None}
    everywhere = together(lambda: {"format": _FORMAT, **describe(), **how})
    _check_same_everywhere(everywhere)
    facts = everywhere[rank]
    if together(lambda: rank == 0 and _is_complete(path, facts))[0]:
        return
    facts["run"] = together(lambda: _run(path, facts) if rank == 0 else "")[0]
    rows = _share(facts, batch_size, rank)
    together(lambda: _fill(path, rank, rows, facts, codes_from))
    together(lambda: _publish(path, facts, batch_size) if rank == 0 else None)


def _check_same_everywhere(facts: list[Facts]) -> None:
    first, *others = facts
    for rank, other in enumerate(others, start=1):
        if other != first:
            raise ValueError(
                f"process {rank} (here) is about to encode something else than process 0 "
                f"(there): {differences(first, other)}"
            )


def _is_complete(path: Path, facts: Facts) -> bool:
    if not path.exists():
        return False
    record = beside(path, 0, "json")
    known = read_record(record)
    if known is None or beside(path, 0, "partial").exists():
        raise FileExistsError(
            f"{path} exists already and is not the result of such a call; delete it, or "
            "choose another name"
        )
    check_same(record, known, facts, [name for name in facts if name not in _HOW])
    _open(path, (facts["rows"], _width(facts)), "r")
    _clean_up(path, known)  # a kill may have prevented it
    return True


def _run(path: Path, facts: Facts) -> str:
    """Name of the run to go on with, or of a new one.

    The parts of other processes count only if they belong to the same run: who deletes the
    files of process 0 starts over.
    """
    record = beside(path, 0, "json")
    known = read_record(record)
    if known is None:
        return uuid.uuid4().hex
    check_same(record, known, facts, facts)
    return known["run"] if beside(path, 0, "partial").exists() else uuid.uuid4().hex


def _share(facts: Facts, batch_size: int, rank: int) -> range:
    count, size = -(-facts["rows"] // batch_size), facts["processes"]
    first, stop = rank * count // size, (rank + 1) * count // size
    return range(first * batch_size, min(stop * batch_size, facts["rows"]))


def _fill(path: Path, rank: int, rows: range, facts: Facts, codes_from: CodesFrom) -> None:
    """Write the rows of one process into its own file."""
    # Process 0 makes room for the others, whose rows follow its own.
    room = facts["rows"] if rank == 0 else len(rows)
    codes, done = _open_partial(path, rank, (room, _width(facts)), facts)
    saved = time.monotonic()
    for packed in codes_from(rows.start + done, rows.stop):
        codes[done : done + len(packed)] = packed.numpy()
        done += len(packed)
        if done == len(rows) or time.monotonic() - saved >= _RECORD_EVERY_S:
            codes.flush()
            write_record(beside(path, rank, "json"), facts, done=done)
            saved = time.monotonic()


def _open_partial(
    path: Path, rank: int, shape: tuple[int, int], facts: Facts
) -> tuple[np.memmap, int]:
    partial, record = beside(path, rank, "partial"), beside(path, rank, "json")
    known = read_record(record)
    if known is not None and known["run"] == facts["run"] and partial.exists():
        return _open(partial, shape, "r+"), known["done"]
    # The record goes first: it must never speak of rows that a new file does not hold.
    record.unlink(missing_ok=True)
    codes = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
    _reserve(partial)
    write_record(record, facts, done=0)
    return codes, 0


def _publish(path: Path, facts: Facts, batch_size: int) -> None:
    """Join the parts of all processes and give the file its name."""
    partial = beside(path, 0, "partial")
    codes = _open(partial, (facts["rows"], _width(facts)), "r+")
    for rank in range(1, facts["processes"]):
        rows = _share(facts, batch_size, rank)
        shape = (len(rows), _width(facts))
        codes[rows.start : rows.stop] = _open(beside(path, rank, "partial"), shape, "r")
    codes.flush()
    del codes  # some systems do not rename a mapped file
    os.replace(partial, path)
    _clean_up(path, facts)


def _clean_up(path: Path, facts: Facts) -> None:
    for rank in range(1, facts["processes"]):
        beside(path, rank, "partial").unlink(missing_ok=True)
        beside(path, rank, "json").unlink(missing_ok=True)
    if facts.get("done") != facts["rows"]:
        write_record(beside(path, 0, "json"), {**facts, "done": facts["rows"]})


def _width(facts: Facts) -> int:
    return -(-facts["bits"] // 8)


def _open(path: Path, shape: tuple[int, int], mode: Any) -> np.memmap:
    try:  # for reading first: "r+" would fill a truncated file up with zeros
        codes = np.lib.format.open_memmap(path, "r")
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}; delete it to start over") from error
    if codes.shape != shape or codes.dtype != np.uint8:
        raise ValueError(
            f"{path} must hold uint8 of shape {shape}, it holds {codes.dtype} of shape "
            f"{codes.shape}"
        )
    return codes if mode == "r" else np.lib.format.open_memmap(path, mode)


def _reserve(path: Path) -> None:
    """Take the disk space now: a full disk kills a process that writes to a mapped file."""
    if not hasattr(os, "posix_fallocate"):
        return
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # not every system can
                raise
