"""Locks between processes and threads, held through files; a kill sets them free.

They are advisory (`flock`). Where a file system has none, work goes on unlocked.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def try_lock(descriptor: int) -> bool | None:
    """Take the lock of an open file without waiting; closing the file frees it.

    Args:
        descriptor: of the open file.

    Returns:
        True if it is ours now, False if another holds it, None if there are no locks here.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[bool]:
    """Wait until no other process or thread holds this folder, and hold it.

    Args:
        folder: an existing one.

    Yields:
        Whether it is held; False where there are no locks.
    """
    if fcntl is None:
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def claimed(lock: Path, purpose: str) -> Iterator[None]:
    """Hold a lock file, which exists as long as it is held, or refuse.

    Args:
        lock: name of the lock file; what a killed holder left is taken over.
        purpose: how the message calls what is being done.

    Raises:
        BlockingIOError: another process or thread holds it.
    """
    descriptor = _take(lock, purpose)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _take(lock: Path, purpose: str) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if try_lock(descriptor) is False:
                raise BlockingIOError(
                    f"another process or thread is {purpose} now; wait for it, or choose "
                    "another name"
                )
            if is_at(descriptor, lock):  # else its holder has just removed it
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of this name.

    Args:
        descriptor: of the open file.
        path: the name.
    """
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
