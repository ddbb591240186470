"""Write files so that no reader, and no crash, ever meets half of one."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` once it is whole and on the disk.

    Args:
        path: where the file ends up; its folder must exist.
    """
    # One name for all attempts: what a killed process leaves, the next one overwrites.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # so that the new name survives a power cut, too
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
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
