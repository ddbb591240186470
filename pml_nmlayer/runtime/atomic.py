"""Write files so that no reader, and no crash, ever meets half of one."""

import contextlib
import errno
import os
import re
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from .locks import is_at, try_lock

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Output:
    """A file that is being written, whose first error is kept until the end.

    Libraries that write from C++ abort the process, or hide the cause, when a write fails.
    So a failed write looks like a good one to them, and `finish` raises.

    Args:
        file: opened for writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0
        self._error: OSError | None = None

    def write(self, content: Any) -> int:
        """Append bytes, or anything with their interface."""
        if self._error is None:
            try:
                self._file.write(content)
            except OSError as error:
                self._error = error
        size = memoryview(content).nbytes
        self._position += size
        return size

    def tell(self) -> int:
        """Number of bytes so far."""
        return self._position

    def flush(self) -> None:
        """Do nothing: `finish` does it."""

    def finish(self) -> None:
        """Bring everything to the disk.

        Raises:
            OSError: a write failed, now or earlier.
        """
        if self._error is not None:
            raise self._error
        self._file.flush()
        os.fsync(self._file.fileno())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` once it is whole and on the disk.

    Each call writes under a hidden name of its own, so that several processes and threads
    may write to one path: the last one to finish wins. A link stays a link, and an old file
    hands its mode and its group on. What killed writers left is removed.

    Args:
        path: where the file ends up; its folder must exist.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: the disk is full, say; or `path` is no regular file. The old file stays.
    """
    target = _target(path)
    _remove_abandoned(target)
    temporary, file = _new_file(target)
    renamed = False
    try:
        with file:
            output = Output(file)
            yield cast(BinaryIO, output)  # what writers need of one
            output.finish()
            _inherit(file.fileno(), target)
            if os.name == "posix":  # while the lock is held; elsewhere it must be closed
                os.replace(temporary, target)
                renamed = True
        if not renamed:
            os.replace(temporary, target)
    except BaseException as error:
        if not renamed:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise OSError(
                error.errno,
                f"{os.strerror(error.errno)}: could not write {path}; "
                + ("the old file is as it was" if target.exists() else "nothing is left"),
            ) from error
        raise
    if hasattr(os, "O_DIRECTORY"):  # so that the new name survives a power cut, too
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def atomic_write(path: Path, content: bytes) -> None:
    """Write a small file in one go; see `replacing`.

    Args:
        path: where the content ends up; its folder must exist.
        content: all of it.
    """
    with replacing(path) as file:
        file.write(content)


def _target(path: Path) -> Path:
    """The file that a link means; refuse what cannot be replaced by a file."""
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"there is no folder {target.parent}; make it first", str(path)
        )
    if target.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, "a folder has this name; choose a file's", str(path)
        )
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "no regular file, so it is not replaced", str(path))
    return target


def _new_file(target: Path) -> tuple[Path, BinaryIO]:
    """A new file that is locked as long as it is open, where there are locks."""
    while True:
        name = f".{target.stem}.{uuid.uuid4().hex}{target.suffix}.tmp"
        temporary = target.with_name(name)
        file = open(temporary, "xb")
        if try_lock(file.fileno()) is not False and is_at(file.fileno(), temporary):
            return temporary, file
        file.close()  # one that looks for abandoned files was faster


def _remove_abandoned(target: Path) -> None:
    """Remove what killed writers of this file left: nobody holds its lock."""
    stem, suffix = re.escape(target.stem), re.escape(target.suffix)
    pattern = re.compile(rf"\.{stem}\.[0-9a-f]{{32}}{suffix}\.tmp")
    for name in os.listdir(target.parent):
        if pattern.fullmatch(name) is None:
            continue
        with contextlib.suppress(OSError), open(target.with_name(name), "rb") as file:
            if try_lock(file.fileno()):
                target.with_name(name).unlink()


def _inherit(descriptor: int, target: Path) -> None:
    if os.name != "posix" or not target.exists():
        return
    old = target.stat()
    with contextlib.suppress(PermissionError):  # only root may give files away
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
