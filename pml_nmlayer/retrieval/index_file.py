"""One file for an index: named arrays behind a checked header, whole or not there.

Layout: magic (8 bytes); format version, length and CRC-32 of the header (uint32 each,
little endian); the header (JSON); the arrays, each at the next multiple of 64 bytes. The
header holds what describes the index, and dtype, shape, offset and CRC-32 of each array.
Version 1 has whole numbers as ids; version 3 has strings beside them. No version is 2.
"""

import json
import math
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
VERSION_WITH_NAMES = 3
_MAGIC = b"\x93PMLHASH"
_PREFIX = struct.Struct("<8sIII")
_ALIGNMENT = 64
# Everything that a file may hold: dtype and number of dimensions
_KINDS = {
    "ids": ("<i8", 1),
    "codes": ("|u1", 2),
    "engine": ("|u1", 1),
    "names": ("|u1", 1),
    "name_ends": ("<i8", 1),
}
_CHUNK = 2**24


def write_index_file(
    path: Path, description: Mapping[str, Any], arrays: Mapping[str, Array]
) -> None:
    """Write an index file; a crash leaves the old file or the new one, never a mixture.

    Args:
        path: of the file; an existing one is replaced.
        description: what JSON can hold.
        arrays: by name, C-contiguous.
    """
    version = VERSION_WITH_NAMES if "names" in arrays else FORMAT_VERSION
    header, offsets = _header(description, arrays)
    with replacing(path) as file:
        file.write(_PREFIX.pack(_MAGIC, version, len(header), zlib.crc32(header)))
        file.write(header)
        for name, array in arrays.items():
            file.write(b"\0" * (offsets[name] - file.tell()))
            file.write(array.data.cast("B") if array.size else b"")


def read_index_file(
    path: Path, mmap: bool, verify: bool
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read an index file.

    Nothing is allocated before its size was compared with that of the file.

    Args:
        path: of the file.
        mmap: map the arrays instead of reading them.
        verify: check mapped codes, too.

    Returns:
        (description, arrays).

    Raises:
        ValueError: a foreign, truncated or damaged file, or a newer format.
        FileNotFoundError: there is no such file.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no index file {path}")
    if not path.is_file():
        raise ValueError(
            f"{path} is not a regular file, so HashIndex.save did not write it"
        )
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = _read_header(file, path, size)
        about = header.pop("arrays")
        end = _check_arrays(about, file.tell(), path)
        if size != end:
            raise ValueError(
                f"{path} is truncated or damaged: expected {end} bytes, got {size}"
            )
        loaded = {name: _read(file, entry, mmap) for name, entry in about.items()}
    for name, array in loaded.items():
        is_mapped = mmap and name == "codes"
        if (verify or not is_mapped) and _checksum(array) != about[name]["crc32"]:
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
        offset = _aligned(offset)
        about[name]["offset"] = offset
        offset += array.nbytes
    text = json.dumps({**description, "arrays": about}).encode().ljust(room)
    return text, {name: entry["offset"] for name, entry in about.items()}


def _read_header(file: BinaryIO, path: Path, size: int) -> dict[str, Any]:
    prefix = file.read(_PREFIX.size)
    if prefix[: len(_MAGIC)] != _MAGIC:
        raise ValueError(f"{path} is not a file that HashIndex.save wrote")
    if len(prefix) < _PREFIX.size:
        raise ValueError(f"{path} is truncated: it has {len(prefix)} bytes")
    _, version, length, checksum = _PREFIX.unpack(prefix)
    if version not in (FORMAT_VERSION, VERSION_WITH_NAMES):
        raise ValueError(
            f"{path} has format version {version}, this release reads version "
            f"{FORMAT_VERSION} and {VERSION_WITH_NAMES}; use the release that wrote it, or "
            "build the index again"
        )
    text = file.read(length) if _PREFIX.size + length <= size else b""
    if len(text) < length or zlib.crc32(text) != checksum:
        raise ValueError(f"{path} is truncated or damaged: its header is not whole")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its header is no JSON: {error}") from error
    if not isinstance(header, dict) or not isinstance(header.get("arrays"), dict):
        raise ValueError(f"{path} is damaged: its header describes no arrays")
    if (version == VERSION_WITH_NAMES) != ("names" in header["arrays"]):
        raise ValueError(f"{path} is damaged: version {version} does not fit its arrays")
    return header


def _check_arrays(about: Mapping[str, Any], start: int, path: Path) -> int:
    """Refuse other dtypes, shapes and places than `write_index_file` gives; the end."""
    required = {"ids", "codes"} | ({"names", "name_ends"} & about.keys() and {"names"})
    required |= {"name_ends"} if "names" in about else set()
    if not required <= about.keys() <= _KINDS.keys():
        raise ValueError(f"{path} is damaged: it holds the arrays {sorted(about)}")
    for name, entry in about.items():
        dtype, ndim = _KINDS[name]
        numbers = (
            [entry.get("crc32"), entry.get("offset")] if isinstance(entry, dict) else []
        )
        shape = entry.get("shape") if numbers else None
        if (
            not isinstance(shape, list)
            or len(shape) != ndim
            or entry.get("dtype") != dtype
            or any(type(n) is not int or not 0 <= n < 2**62 for n in [*shape, *numbers])
        ):
            raise ValueError(
                f"{path} is damaged: its {name} must be {dtype} with {ndim} dimensions, "
                f"described are {entry}"
            )
        if entry["offset"] != _aligned(start):
            raise ValueError(f"{path} is damaged: its {name} are out of place")
        start = entry["offset"] + math.prod(shape) * np.dtype(dtype).itemsize
    return start


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _read(file: BinaryIO, about: Mapping[str, Any], mmap: bool) -> Array:
    dtype, shape = np.dtype(about["dtype"]), tuple(about["shape"])
    if math.prod(shape) == 0:  # cannot be mapped
        return np.empty(shape, dtype)
    if mmap:
        return np.memmap(file, dtype, "r", about["offset"], shape)
    file.seek(about["offset"])
    return np.fromfile(file, dtype, math.prod(shape)).reshape(shape)


def _checksum(array: Array) -> int:
    rows, checksum = max(_CHUNK // max(array[:1].nbytes, 1), 1), 0
    for i in range(0, len(array), rows):
        checksum = zlib.crc32(np.ascontiguousarray(array[i : i + rows]).data, checksum)
    return checksum
