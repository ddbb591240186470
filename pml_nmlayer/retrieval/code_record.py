"""What is known about a file of codes that is being written: a JSON file beside it."""

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..runtime.atomic import atomic_write

Facts = dict[str, Any]

FORMAT = "pml_nmlayer codes 2"
# Without checksums; version 0.1.0 wrote it
OLD_FORMAT = "pml_nmlayer codes 1"
_CHECK = "record_crc32"


def beside(path: Path, rank: int, suffix: str) -> Path:
    """Name of a file that belongs to `path`.

    Args:
        path: the file of codes.
        rank: process that writes; the names of process 0 have no number.
        suffix: what kind of file.
    """
    number = f".{rank}" if rank else ""
    return path.with_name(f"{path.name}{number}.{suffix}")


def write_record(record: Path, facts: Facts, **progress: Any) -> None:
    """Write a record, atomically.

    Args:
        record: the JSON file.
        facts: what is being written.
        progress: how far it is.
    """
    content = {**facts, **progress}
    content[_CHECK] = _checksum(content)
    atomic_write(record, json.dumps(content, indent=1).encode())


def read_record(record: Path) -> Facts | None:
    """Read a record; None if there is none.

    Args:
        record: the JSON file.

    Raises:
        ValueError: the file is something else, or damaged.
    """
    if not record.exists():
        return None
    try:
        known = json.loads(record.read_text())
        _check_record(known)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError(
            f"{record} is not a record of encode_to_file, or damaged; move it away"
        ) from None
    return known


def _check_record(known: Any) -> None:
    """Raise any of the errors that `read_record` expects."""
    counts = [known["rows"], known["bits"], known["done"], known["processes"]]
    if any(type(count) is not int for count in counts) or not isinstance(known["run"], str):
        raise ValueError
    rows, bits, done, processes = counts
    if rows < 0 or bits < 1 or not 0 <= done <= rows or not 1 <= processes < 2**20:
        raise ValueError
    if _CHECK in known or known["format"] != OLD_FORMAT:
        if known["format"] != FORMAT or known[_CHECK] != _checksum(known):
            raise ValueError
        if type(known["crc32"]) is not int or not isinstance(known["skipped"], dict):
            raise ValueError
        if not all(0 <= int(row) < rows for row in known["skipped"]):
            raise ValueError


def _checksum(content: Facts) -> int:
    plain = {name: value for name, value in content.items() if name != _CHECK}
    return zlib.crc32(json.dumps(plain, sort_keys=True).encode())


def check_same(record: Path, known: Facts, facts: Facts, names: Iterable[str]) -> None:
    """Refuse a record of something else.

    Args:
        record: the JSON file.
        known: what it says.
        facts: what it should say.
        names: which facts to compare.

    Raises:
        ValueError: some differ; the message names them.
    """
    names = set(names) - ({"format"} if known.get("format") == OLD_FORMAT else set())
    text = differences(known, {name: facts[name] for name in facts if name in names})
    if text:
        raise ValueError(
            f"{record} belongs to another encoding ({text}); delete it to start over, or "
            "choose another name"
        )


def differences(there: Facts, here: Facts) -> str:
    """Name what differs; empty if nothing does.

    Args:
        there: facts found.
        here: facts wanted.
    """
    differing = [name for name in here if there.get(name) != here[name]]
    return ", ".join(
        f"{name}: {there.get(name)} there, {here[name]} here" for name in differing
    )
