"""What is known about a file of codes that is being written: a JSON file beside it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..runtime.atomic import atomic_write

Facts = dict[str, Any]


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
    atomic_write(record, json.dumps({**facts, **progress}, indent=1).encode())


def read_record(record: Path) -> Facts | None:
    """Read a record; None if there is none.

    Args:
        record: the JSON file.

    Raises:
        ValueError: the file is something else.
    """
    if not record.exists():
        return None
    try:
        known = json.loads(record.read_text())
        if isinstance(known["done"], int) and isinstance(known["run"], str):
            return known
    except (ValueError, TypeError, KeyError):
        pass
    raise ValueError(f"{record} is not a record of encode_to_file; move it away")


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
    text = differences(known, {name: facts[name] for name in names})
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
