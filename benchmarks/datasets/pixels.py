"""Small pictures as vectors of pixels: scikit-learn's digits, and IDX files."""

import gzip
from pathlib import Path

import numpy as np
import torch

from .interface import Collection
from .sources import SOURCES, Source

_BYTES = 0x08  # the only element type of IDX files that pictures use


def load_digits(path: Path) -> Collection:
    """Load the 1,797 digits bundled with scikit-learn: 8 x 8 pixels in [0, 1]."""
    from sklearn import datasets

    pixels, labels = datasets.load_digits(return_X_y=True)
    return Collection(torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels))


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of bytes, gzipped or not.

    Args:
        path: of the file. It holds two zero bytes, the type (8: bytes), the number of
            dimensions, each dimension as a big-endian 32-bit integer, and the values.

    Raises:
        ValueError: not such a file, or one cut short.
    """
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise ValueError(f"{path} is a damaged gzip file: {error}") from error
    if len(content) < 4 or content[:3] != bytes([0, 0, _BYTES]):
        raise ValueError(f"{path} is no IDX file of bytes: it begins {content[:4]!r}")
    start = 4 + 4 * content[3]
    shape = [int(n) for n in np.frombuffer(content[4:start], ">u4")]
    if len(shape) != content[3] or len(content) - start != np.prod(shape):
        raise ValueError(
            f"{path} should hold {shape} values, but has {max(len(content) - start, 0)}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def load_idx_folder(folder: Path) -> Collection:
    """Read the four files of MNIST and its kin: pixels in [0, 1], train and test."""
    pixels, labels, sizes = [], [], []
    for part in ("train", "t10k"):
        images = read_idx(_either(folder, f"{part}-images-idx3-ubyte"))
        names = read_idx(_either(folder, f"{part}-labels-idx1-ubyte"))
        if images.ndim != 3 or names.ndim != 1 or len(images) != len(names):
            raise ValueError(
                f"{folder} must hold {part} images (N, H, W) and labels (N,), got "
                f"{images.shape} and {names.shape}"
            )
        pixels.append(images.reshape(len(images), -1))
        labels.append(names)
        sizes.append(len(names))
    features = torch.from_numpy(np.concatenate(pixels).astype(np.float32) / 255)
    ids = torch.arange(sum(sizes)).split(sizes)
    parts = dict(zip(("train", "test"), ids, strict=True))
    return Collection(
        features, torch.from_numpy(np.concatenate(labels).astype(np.int64)), parts
    )


def _either(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise ValueError(f"{folder} lacks {name} (or {name}.gz)")


SOURCES.add(
    "digits",
    Source(load_digits, "1,797 digits, bundled with scikit-learn", protocol="digits"),
)
SOURCES.add(
    "fashion-mnist",
    Source(
        load_idx_folder,
        "70,000 pictures of clothes, 28 x 28 pixels",
        "Install Debian's package dataset-fashion-mnist, or put its four files "
        "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz "
        "and t10k-labels-idx1-ubyte.gz (gzipped or not) into the folder {place} of the "
        "data folder; they come from github.com/zalandoresearch/fashion-mnist.",
        ("fashion-mnist", "/usr/share/datasets/fashion-mnist"),
        "given",
    ),
)
