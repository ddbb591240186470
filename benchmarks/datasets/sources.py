"""Where labelled sets come from: names, files, and what to do where a file is missing."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..registry import Registry, check_known
from .interface import Collection, Purpose, Split
from .protocols import PROTOCOLS, default_protocol, split_by
from .thinning import thinned

DATA_ROOT = "PML_NMLAYER_DATA"


@dataclass(frozen=True)
class Source:
    """A registered data set.

    Args:
        load: from the file or folder where the set lies.
        about: what it is, in a few words.
        layout: where to get it, and how to lay it out.
        places: where it may lie, relative to the data root; None if the name says it
            (`<source>:<path>`), empty if it needs no file.
        protocol: the default one; None to follow what the set says of itself.
    """

    load: Callable[[Path], Collection]
    about: str
    layout: str = ""
    places: tuple[str, ...] | None = ()
    protocol: str | None = None


SOURCES: Registry[Source] = Registry("dataset")


@dataclass(frozen=True)
class Name:
    """A data set as a suite names it: `source[:path][:protocol]`."""

    source: str
    path: str | None
    protocol: str | None


def parse(name: str, where: str = "dataset") -> Name:
    """Take a name apart.

    Args:
        name: such as `digits`, `cifar10-features:C-A` or `features:set.npz:unseen`.
        where: what messages call it.

    Raises:
        ValueError: unknown source or protocol, or a path that is missing.
    """
    head, *rest = name.split(":")
    check_known(where, [head], SOURCES)
    path = None
    if SOURCES[head].places is None:
        if not rest or not rest[0]:
            raise ValueError(f"{where} {name!r} must say which: {head}:PATH")
        path, *rest = rest
    if len(rest) > 1:
        raise ValueError(f"{where} {name!r} names more than one protocol")
    check_known(f"protocol of {where} {name!r}", rest, PROTOCOLS)
    return Name(head, path, rest[0] if rest else SOURCES[head].protocol)


def load_collection(name: str, root: Path | None = None) -> Collection:
    """Load a set before it is split.

    Args:
        name: see `parse`; a protocol in it plays no part.
        root: the data folder; None for that of the environment.

    Raises:
        ValueError: it is not there, or not what it should be.
    """
    parsed = parse(name)
    path = _locate(parsed, data_root(root))
    stamp = path.stat().st_mtime_ns if path.exists() else 0
    return _loaded(parsed.source, path, stamp)


@lru_cache(maxsize=1)  # a worker mostly sees one set, again and again
def _loaded(source: str, path: Path, stamp: int) -> Collection:
    return SOURCES[source].load(path)


def load_split(
    name: str,
    seed: int,
    purpose: Purpose,
    root: Path | None = None,
    most_items: int | None = None,
) -> Split:
    """Load a set and split it as its name says.

    Args:
        name: see `parse`.
        seed: of the split.
        purpose: "report" or "tune".
        root: the data folder; None for that of the environment.
        most_items: see `thinned`; None for the whole set.
    """
    collection = load_collection(name, root)
    if most_items is not None:
        collection = thinned(collection, most_items)
    protocol = parse(name).protocol or default_protocol(collection)
    return split_by(protocol, collection, seed, purpose)


def is_there(name: str, root: Path | None = None) -> bool:
    """Tell whether the file or folder of a set exists."""
    try:
        _locate(parse(name), data_root(root))
    except ValueError:
        return False
    return True


def data_root(root: Path | None) -> Path | None:
    """Return the data folder: what was asked for, or else what the environment says."""
    text = os.environ.get(DATA_ROOT)
    return root if root is not None else Path(text) if text else None


def _locate(name: Name, root: Path | None) -> Path:
    source = SOURCES[name.source]
    places = source.places if name.path is None else (name.path,)
    if not places:
        return Path()
    found = [
        Path(place) if root is None else root / place
        for place in places
        if root is not None or Path(place).is_absolute()
    ]
    for path in found:
        if path.exists():
            return path
    layout = source.layout.format(place=places[0])
    looked = ", ".join(map(str, found)) or "nowhere"
    raise ValueError(
        f"there is no {name.source} data set (looked at: {looked}). {layout} Name the data "
        f"folder by --data-root DIR or the environment variable {DATA_ROOT}"
        + ("." if root is None else f"; now it is {root}.")
    )
