"""Load what torch.save wrote, and compare its checksums, which torch.load does not."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

_CHUNK = 2**20


def load_checked(path: Path) -> Any:
    """Load tensors and plain values to the CPU; a damaged file is refused.

    Args:
        path: of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, no checkpoint, or holds more than tensors and plain
            values.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    if not path.is_file():
        raise ValueError(f"{path} is not a checkpoint of tensors: it is no regular file")
    with open(path, "rb") as file:
        try:
            _check_archive(file)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{path} is not a checkpoint of tensors: {error}. If you trust it, load it "
                "by torch.load(weights_only=False), and save the state dicts alone"
            ) from error
        except Exception as error:  # of any kind, if any byte may be any other
            raise ValueError(
                f"{path} is not a checkpoint of tensors: {type(error).__name__}: {error}; "
                "it is damaged, or something else"
            ) from error


def _check_archive(file: BinaryIO) -> None:
    """Compare the checksum of each part; files of torch before 1.6 have none."""
    start = file.read(4)
    file.seek(0)
    if start[:2] != b"PK" and not zipfile.is_zipfile(file):
        return
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        if len({part.filename for part in parts}) < len(parts):
            raise ValueError("a part comes twice")
        if sum(part.file_size for part in parts) > size:
            raise ValueError("its parts are larger than the file")
        for part in parts:
            if part.compress_type != zipfile.ZIP_STORED or part.flag_bits & 1:
                raise ValueError(f"{part.filename} is not stored as it is")
            with archive.open(part) as content:
                while content.read(_CHUNK):
                    pass
