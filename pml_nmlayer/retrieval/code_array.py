"""Files of codes: .npy files of uint8 rows, opened only if they are just that."""

import os
import zlib
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .code_record import Facts, beside, read_record
from .packed_rows import flag

_CHUNK = 2**24


class FileCodes(NamedTuple):
    """What `read_codes` returns."""

    codes: npt.NDArray[np.uint8]
    bits: int
    model: str
    skipped: dict[int, str]


def read_codes(
    path: str | PathLike[str], *, mmap: bool = True, verify: bool = False
) -> FileCodes:
    """Read a file that `HashEncoder.encode_to_file` completed.

    Args:
        path: of the .npy file, with its .json beside it.
        mmap: leave the codes on the disk until they are used.
        verify: compare the checksum, which reads all codes once; without `mmap` this is
            always done.

    Returns:
        codes (N, ceil(bits / 8)) uint8, bits, model (checksum of trunk and head), and
        skipped: the reason by row, for items that could not be read; their rows are zeros.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no record beside it, a file that is not complete, or a damaged one.

    Example:
        >>> codes, bits, model, skipped = read_codes("codes.npy")  # doctest: +SKIP
    """
    path = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    check = flag(verify, "verify") or not flag(mmap, "mmap")
    if not path.exists():
        raise FileNotFoundError(f"there is no file of codes {path}")
    record = beside(path, 0, "json")
    known = read_record(record)
    if known is None:
        raise ValueError(
            f"{path} has no {record.name}; encode_to_file writes one beside it"
        )
    if known["done"] != known["rows"]:
        raise ValueError(f"{path} is not complete: call encode_to_file again")
    codes: Any = open_codes(path, (known["rows"], width_of(known)))
    if not mmap:
        codes = np.array(codes)
    if check:
        unused = -known["bits"] % 8
        if "crc32" in known and rows_crc32(codes) != known["crc32"]:
            raise ValueError(f"{path} is damaged: its checksum is not that in {record}")
        if unused and (codes[:, -1] & ((1 << unused) - 1)).any():
            raise ValueError(f"{path} has bits set beyond the first {known['bits']}")
    skipped = {int(row): why for row, why in known.get("skipped", {}).items()}
    return FileCodes(codes, known["bits"], str(known.get("model")), skipped)


def open_codes(path: Path, shape: tuple[int, int]) -> np.memmap:
    """Map a file of codes for reading.

    Args:
        path: of the .npy file.
        shape: what it must hold.

    Raises:
        ValueError: anything else than uint8 of this shape, and nothing behind it.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    try:  # a header of any content must not get further than here
        codes = np.lib.format.open_memmap(path, "r")
    except Exception as error:
        raise ValueError(f"{path} is damaged: {error}; delete it to start over") from error
    is_rows = isinstance(codes, np.ndarray) and codes.dtype == np.uint8
    if not is_rows or codes.shape != shape or not codes.flags.c_contiguous:
        raise ValueError(
            f"{path} must hold uint8 of shape {shape}, it holds {codes.dtype} of shape "
            f"{codes.shape}"
        )
    if path.stat().st_size != codes.offset + codes.nbytes:
        raise ValueError(f"{path} is damaged: there is something behind its rows")
    return codes


def rows_crc32(codes: npt.NDArray[np.uint8]) -> int:
    """CRC-32 of rows, without reading them all at once.

    Args:
        codes: (N, W).
    """
    step, crc32 = max(_CHUNK // max(codes.shape[1], 1), 1), 0
    for i in range(0, len(codes), step):
        crc32 = zlib.crc32(np.ascontiguousarray(codes[i : i + step]).data, crc32)
    return crc32


def width_of(facts: Facts) -> int:
    """Bytes a code.

    Args:
        facts: with "bits".
    """
    return -(-facts["bits"] // 8)
