"""One file for an index: named arrays behind a checked header, whole or not there.

Layout: magic (8 bytes); format version, length and CRC-32 of the header (uint32 each,
little endian); the header (JSON); the arrays, each at a multiple of 64 bytes. The header
holds what describes the index, and dtype, shape, offset and CRC-32 of each array.
"""

import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..runtime.atomic import replacing

Array = npt.NDArray[Any]

FORMAT_VERSION = 1
_MAGIC = b"\x93PMLHASH"
_PREFIX = struct.Struct("<8sIII")
_ALIGNMENT = 64


def write_index_file(
    path: Path, description: Mapping[str, Any], arrays: Mapping[str, Array]
) -> None:
    """Write an index file; a crash leaves the old file or the new one, never a mixture.

    Args:
        path: of the file; an existing one is replaced.
        description: what JSON can hold.
        arrays: by name, C-contiguous.
    """
    header, offsets = _header(description, arrays)
    with replacing(path) as file:
        file.write(_PREFIX.pack(_MAGIC, FORMAT_VERSION, len(header), zlib.crc32(header)))
        file.write(header)
        for name, array in arrays.items():
            file.write(b"\0" * (offsets[name] - file.tell()))
            file.write(array.data.cast("B") if array.size else b"")


def read_index_file(path: Path, mmap: bool) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read an index file.

    Args:
        path: of the file.
        mmap: map the arrays instead of reading them; their checksums are then not checked.

    Returns:
        (description, arrays).

    Raises:
        ValueError: a foreign, truncated or damaged file, or a newer format.
        FileNotFoundError: there is no such file.
    """
    with open(path, "rb") as file:
        header = _read_header(file, path)
        arrays = header.pop("arrays")
        end = max((a["offset"] + _size(a) for a in arrays.values()), default=file.tell())
        size = os.fstat(file.fileno()).st_size
        if size != end:
            raise ValueError(
                f"{path} is truncated or damaged: expected {end} bytes, got {size}"
            )
        loaded = {name: _read(file, path, about, mmap) for name, about in arrays.items()}
    for name, about in arrays.items():
        if not mmap and zlib.crc32(loaded[name].data) != about["crc32"]:
            raise ValueError(f"{path} is damaged: the checksum of its {name} is wrong")
    return header, loaded


def _header(
    description: Mapping[str, Any], arrays: Mapping[str, Array]
) -> tuple[bytes, dict[str, int]]:
    """Header and offsets; the header is padded to a length that no offset changes."""
    about = {
        name: {
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "crc32": zlib.crc32(array.data),
            "offset": 0,
        }
        for name, array in arrays.items()
    }
    room = len(json.dumps({**description, "arrays": about})) + 20 * len(about)
    offset = _PREFIX.size + room
    for name, array in arrays.items():
        offset = -(-offset // _ALIGNMENT) * _ALIGNMENT
        about[name]["offset"] = offset
        offset += array.nbytes
    text = json.dumps({**description, "arrays": about}).encode().ljust(room)
    return text, {name: entry["offset"] for name, entry in about.items()}


def _read_header(file: BinaryIO, path: Path) -> dict[str, Any]:
    prefix = file.read(_PREFIX.size)
    if prefix[: len(_MAGIC)] != _MAGIC:
        raise ValueError(f"{path} is not a file that HashIndex.save wrote")
    if len(prefix) < _PREFIX.size:
        raise ValueError(f"{path} is truncated: it has {len(prefix)} bytes")
    _, version, length, checksum = _PREFIX.unpack(prefix)
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this release reads version "
            f"{FORMAT_VERSION}; use the release that wrote it, or build the index again"
        )
    text = file.read(length)
    if len(text) < length or zlib.crc32(text) != checksum:
        raise ValueError(f"{path} is truncated or damaged: its header is not whole")
    return json.loads(text)


def _size(about: Mapping[str, Any]) -> int:
    return int(np.prod(about["shape"], dtype=np.int64)) * np.dtype(about["dtype"]).itemsize


def _read(file: BinaryIO, path: Path, about: Mapping[str, Any], mmap: bool) -> Array:
    dtype, shape = np.dtype(about["dtype"]), tuple(about["shape"])
    if _size(about) == 0:  # cannot be mapped
        return np.empty(shape, dtype)
    if mmap:
        return np.memmap(path, dtype, "r", about["offset"], shape)
    file.seek(about["offset"])
    return np.fromfile(file, dtype, int(np.prod(shape))).reshape(shape)
