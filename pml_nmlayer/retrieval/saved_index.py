"""From an index to the parts of its file, and back, with everything compared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import approximate
from .code_table import CodeTable
from .index_contents import MAX_BITS, IndexContents
from .index_file import read_index_file, write_index_file
from .names import Names
from .packed_rows import padded_width, whole
from .read_write_lock import ReadWriteLock
from .row_ids import ascending

Arrays = dict[str, npt.NDArray[Any]]


def save_index(index: IndexContents, path: Path) -> None:
    """Write an index.

    Args:
        index: a trained one.
        path: of the file.
    """
    ids, codes = index._table.sorted()
    arrays: Arrays = {"ids": ids, "codes": codes}
    if index._names is not None:
        arrays |= index._names.to_arrays(ids)
    if index._engine is not None:
        engine = approximate.to_bytes(index._engine)
        assert engine is not None
        arrays["engine"] = engine
    about = {"bits": index.bits, "kind": index.kind, "options": index._options}
    write_index_file(path, {**about, "next_id": index._table.next_id}, arrays)


def restore_index(index: IndexContents, path: Path, mmap: bool, verify: bool) -> None:
    """Fill an index, made without its constructor, from a file.

    Args:
        index: any object of the class.
        path: of the file.
        mmap: leave the codes on the disk.
        verify: check mapped codes, too.

    Raises:
        ValueError: a foreign, truncated or damaged file, another format version, or
            mmap with another kind than flat.
    """
    about, arrays = read_index_file(path, mmap, verify)
    try:
        _fill(index, about, arrays, mmap)
    except (ValueError, TypeError, KeyError, RuntimeError, MemoryError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if mmap and index.kind != "flat":
        raise ValueError(
            f"mmap=True works with kind 'flat', {path} is of kind {index.kind!r}; load it "
            "with mmap=False"
        )


def _fill(
    index: IndexContents, about: Mapping[str, Any], arrays: Arrays, mmap: bool
) -> None:
    if about.keys() != {"bits", "kind", "options", "next_id"}:
        raise ValueError(f"it tells {sorted(about)}")
    ids, codes = arrays["ids"], arrays["codes"]
    index.bits = whole(about["bits"], "bits", most=MAX_BITS)
    index.kind = about["kind"]
    index._options = approximate.resolve_options(index.kind, index.bits, about["options"])
    if index._options != about["options"]:
        raise ValueError(f"its options are {about['options']}")
    index._width = padded_width(index.bits)
    _check_rows(ids, codes, index.bits, index._width, mmap)
    next_id = whole(about["next_id"], "next_id", int(ids[-1]) + 1 if len(ids) else 0)
    index._table = CodeTable(index._width, ids, codes, next_id, read_only=mmap)
    index._names = None
    if "names" in arrays:
        index._names = Names.from_arrays(ids, arrays["names"], arrays["name_ends"])
    index._engine = None
    if (index.kind != "flat") != ("engine" in arrays):
        raise ValueError(f"its arrays do not fit kind {index.kind!r}")
    if index.kind != "flat":
        if 8 * index._options.get("nlist", 0) > arrays["engine"].nbytes:
            raise ValueError("its engine is smaller than nlist says")
        index._engine = approximate.from_bytes(arrays["engine"])
        approximate.check_loaded(
            index._engine, index.kind, index._width, index._options, ids
        )
        approximate.set_search_option(index._engine, index.kind, index._options)
    index._lock = ReadWriteLock()


def _check_rows(ids: Any, codes: Any, bits: int, width: int, mapped: bool) -> None:
    if codes.shape != (len(ids), width):
        raise ValueError(f"codes of {bits} bits must have shape {(len(ids), width)}")
    if len(ids) and (ids[0] < 0 or not ascending(ids)):
        raise ValueError("its ids do not ascend from 0 or more")
    used = -(-bits // 8)
    last = np.uint8((1 << (8 * used - bits)) - 1)
    if not mapped and ((codes[:, used - 1] & last).any() or codes[:, used:].any()):
        raise ValueError(f"its codes have bits set beyond the first {bits}")
