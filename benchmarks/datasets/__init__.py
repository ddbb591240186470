"""Labelled sets by name, and their seeded splits by named protocols.

A name is `source[:path][:protocol]`, such as `digits`, `cifar10-features:C-A` or
`features:set.npz:unseen`. It never says where the data folder is: that is `--data-root`.
"""

from . import features, images, open_set, pixels
from .interface import Collection, ImageFiles, Items, Purpose, Split
from .protocols import PROTOCOLS
from .sources import (
    DATA_ROOT,
    SOURCES,
    Source,
    data_root,
    is_there,
    load_collection,
    load_split,
    parse,
)

__all__ = [
    "DATA_ROOT",
    "PROTOCOLS",
    "SOURCES",
    "Collection",
    "ImageFiles",
    "Items",
    "Purpose",
    "Source",
    "Split",
    "data_root",
    "features",
    "images",
    "is_there",
    "load_collection",
    "load_split",
    "open_set",
    "parse",
    "pixels",
]
