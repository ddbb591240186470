"""Packed codes on their way into a .npy file: resumable, and shared by processes.

For a file `codes.npy` these lie beside it until it is complete:
    codes.npy.partial     the array, memory-mapped; rows beyond the recorded ones are unset
    codes.npy.json        what is being written, how many rows are done, their CRC-32, which
                          items were skipped; and a CRC-32 of all that
    codes.npy.lock        held by the process that writes
    codes.npy.1.partial, codes.npy.1.json, ...    the same of process 1, ...: its rows alone
Process 0 joins the parts, then renames; its .json stays. Each file is written by a single
process, so that they may lie on a file system that several nodes share.
"""

import contextlib
import errno
import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from ..runtime.locks import claimed
from ..runtime.process_group import rank_and_size, together
from .code_array import open_codes, rows_crc32, width_of
from .code_record import (
    FORMAT,
    OLD_FORMAT,
    Facts,
    beside,
    check_same,
    differences,
    read_record,
    write_record,
)

Skipped = dict[int, str]
CodesFrom = Callable[[int, int, Skipped], Iterator[Tensor]]

_HOW = ("processes", "batch_size")  # who encoded, which does not matter in the end
_RECORD_EVERY_S = 1.0  # what a kill costs at most, besides the batch in hand


def write_codes(
    path: Path,
    describe: Callable[[], Facts],
    batch_size: int,
    codes_from: CodesFrom,
    skip: bool,
) -> Skipped:
    """Write all rows, or those that an earlier call left over.

    Every process of a group has to call it; each takes whole batches, so that these are
    those of a single process.

    Args:
        path: the .npy file; it appears only when it is complete.
        describe: gives "rows", "bits" and whatever else decides what the codes are.
        batch_size: rows a batch.
        codes_from: yields the packed codes of rows first..stop-1, in batches, on the CPU;
            notes rows that it skips, with the reason, in the dictionary that it gets.
        skip: whether skipped rows are wanted.

    Returns:
        Reasons by row of the rows that were skipped.

    Raises:
        ValueError: the files beside `path` were begun for something else, are damaged, or
            have skipped rows although `skip` is False.
        FileExistsError: `path` exists and was not written here.
        BlockingIOError: another process is writing to `path`.
        RuntimeError: another process failed.
    """
    rank, size = rank_and_size()
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    # With several processes the batch size decides who writes what.
    how = {"processes": size, "batch_size": batch_size if size > 1 else None}
    everywhere = together(lambda: {"format": FORMAT, **describe(), **how})
    _check_same_everywhere(everywhere)
    facts = everywhere[rank]
    if (known := _complete(path, facts, rank, skip)) is not None:
        return known
    with contextlib.ExitStack() as stack:
        lock, purpose = beside(path, rank, "lock"), f"encoding to {path}"
        together(lambda: stack.enter_context(claimed(lock, purpose)) if rank == 0 else None)
        together(lambda: stack.enter_context(claimed(lock, purpose)) if rank else None)
        if (known := _complete(path, facts, rank, skip)) is not None:  # just now
            return known
        facts["run"] = together(lambda: _run(path, facts) if rank == 0 else "")[0]
        rows = _share(facts, batch_size, rank)
        together(lambda: _fill(path, rank, rows, facts, codes_from, skip))
        return together(lambda: _publish(path, facts, batch_size) if rank == 0 else {})[0]


def _check_same_everywhere(facts: list[Facts]) -> None:
    first, *others = facts
    for rank, other in enumerate(others, start=1):
        if other != first:
            raise ValueError(
                f"process {rank} (here) is about to encode something else than process 0 "
                f"(there): {differences(first, other)}"
            )


def _complete(path: Path, facts: Facts, rank: int, skip: bool) -> Skipped | None:
    """Rows that a complete file skipped; None if it is not complete."""
    return together(lambda: _check_complete(path, facts, skip) if rank == 0 else None)[0]


def _check_complete(path: Path, facts: Facts, skip: bool) -> Skipped | None:
    if not path.exists():
        return None
    record = beside(path, 0, "json")
    known = read_record(record)
    if known is None or beside(path, 0, "partial").exists():
        raise FileExistsError(
            f"{path} exists already and is not the result of such a call; delete it, or "
            "choose another name"
        )
    check_same(record, known, facts, [name for name in facts if name not in _HOW])
    codes = open_codes(path, (facts["rows"], width_of(facts)))
    if known["format"] == OLD_FORMAT:
        if known["done"] != known["rows"]:  # a kill came before its last word
            write_record(record, {**known, "done": known["rows"]})
    elif known["done"] != known["rows"] or rows_crc32(codes) != known["crc32"]:
        raise ValueError(
            f"{path} is damaged: its rows do not have the checksum in {record}; delete "
            "both to start over"
        )
    _remove_parts(path, known)  # a kill may have prevented it
    for rank in range(known["processes"]):
        lock = beside(path, rank, "lock")
        if lock.exists():
            with contextlib.suppress(BlockingIOError), claimed(lock, "encoding"):
                pass
    return _skipped(path, known, skip)


def _skipped(path: Path, known: Facts, skip: bool) -> Skipped:
    skipped = {int(row): why for row, why in known.get("skipped", {}).items()}
    if skipped and not skip:
        raise ValueError(
            f"{path} has {len(skipped)} rows of zeros for items that could not be read: "
            f"{next(iter(skipped.values()))}; delete {beside(path, 0, 'json')} to try them "
            "again, or use unreadable='skip'"
        )
    return skipped


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


def _fill(
    path: Path, rank: int, rows: range, facts: Facts, codes_from: CodesFrom, skip: bool
) -> None:
    """Write the rows of one process into its own file."""
    # Process 0 makes room for the others, whose rows follow its own.
    room = facts["rows"] if rank == 0 else len(rows)
    codes, known = _open_partial(path, rank, (room, width_of(facts)), facts)
    done, crc32 = known["done"], known["crc32"]
    skipped = _skipped(path, known, skip)
    saved = time.monotonic()
    for packed in codes_from(rows.start + done, rows.stop, skipped):
        codes[done : done + len(packed)] = packed.numpy()
        done += len(packed)
        crc32 = zlib.crc32(packed.contiguous().numpy().data, crc32)
        if done == len(rows) or time.monotonic() - saved >= _RECORD_EVERY_S:
            codes.flush()
            progress = {"crc32": crc32, "skipped": _as_text(skipped)}
            write_record(beside(path, rank, "json"), facts, done=done, **progress)
            saved = time.monotonic()


def _open_partial(
    path: Path, rank: int, shape: tuple[int, int], facts: Facts
) -> tuple[np.memmap, Facts]:
    """The array to write to, and the record of what it holds."""
    partial, record = beside(path, rank, "partial"), beside(path, rank, "json")
    known = read_record(record)
    if known is not None and known["run"] == facts["run"] and partial.exists():
        codes = open_codes(partial, shape)
        if known["done"] > len(codes):
            raise ValueError(f"{record} tells of more rows than {partial} has")
        crc32 = rows_crc32(codes[: known["done"]])
        if crc32 != known.get("crc32", crc32):
            raise ValueError(
                f"{partial} is damaged: its first {known['done']} rows do not have the "
                f"checksum in {record}; delete both to start over"
            )
        known = {"skipped": {}, **known, "crc32": crc32}
        return np.lib.format.open_memmap(partial, "r+"), known
    # The record goes first: it must never speak of rows that a new file does not hold.
    record.unlink(missing_ok=True)
    try:
        codes = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        _reserve(partial)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"{error.strerror}: no room for {shape[0]} codes in {partial}"
        ) from error
    known = {"done": 0, "crc32": 0, "skipped": {}}
    write_record(record, facts, **known)
    return codes, known


def _publish(path: Path, facts: Facts, batch_size: int) -> Skipped:
    """Join the parts of all processes and give the file its name."""
    partial, record = beside(path, 0, "partial"), beside(path, 0, "json")
    known = read_record(record)
    assert known is not None
    skipped = dict(known["skipped"])
    if facts["processes"] > 1:
        codes = np.lib.format.open_memmap(partial, "r+")
        for rank in range(1, facts["processes"]):
            rows = _share(facts, batch_size, rank)
            part, other = beside(path, rank, "partial"), beside(path, rank, "json")
            theirs = read_record(other) or {"done": -1, "skipped": {}, "crc32": 0}
            found = open_codes(part, (len(rows), width_of(facts)))
            if theirs["done"] != len(rows) or rows_crc32(found) != theirs["crc32"]:
                raise ValueError(f"{part} is damaged: its checksum is not that in {other}")
            codes[rows.start : rows.stop] = found
            skipped |= theirs["skipped"]
        codes.flush()
        progress = {"crc32": rows_crc32(codes), "skipped": skipped}
        write_record(record, facts, done=facts["rows"], **progress)
        del codes  # some systems do not rename a mapped file
    os.replace(partial, path)
    _remove_parts(path, facts)
    return {int(row): why for row, why in skipped.items()}


def _remove_parts(path: Path, facts: Facts) -> None:
    for rank in range(1, facts["processes"]):
        beside(path, rank, "partial").unlink(missing_ok=True)
        beside(path, rank, "json").unlink(missing_ok=True)


def _as_text(skipped: Skipped) -> dict[str, str]:
    return {str(row): why for row, why in skipped.items()}


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
