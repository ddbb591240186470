"""Feature sets in .npz files: `features`, `labels`, maybe `split` and `coarse_labels`."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pml_nmlayer.labels import LabelMap

from .interface import Collection, ids_of
from .sources import SOURCES, Source

PARTS = ("train", "validation", "test", "database")
LAYOUT = (
    "It is a .npz file with features (N, D) and labels, class ids or names (N,) or "
    "multi-hot rows (N, C), maybe split (N,) with train or test of each item, and maybe "
    "coarse_labels (N,), ids of superclasses; "
    "`python -m benchmarks extract` writes such files."
)


def load_npz(path: Path) -> Collection:
    """Read a feature set.

    Args:
        path: of the file; float16 becomes float32. `split` names the part of an item, or
            several parts joined by + ("train+database").

    Raises:
        ValueError: no such set in the file.
    """
    try:
        # opened here: numpy leaves a damaged file open
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            names = ("features", "labels", "split", "coarse_labels")
            arrays = {name: file[name] for name in names if name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as a feature set: {error}") from error
    missing = [name for name in ("features", "labels") if name not in arrays]
    if missing:
        raise ValueError(f"{path} lacks {' and '.join(missing)}. {LAYOUT}")
    features = torch.from_numpy(arrays["features"].astype(np.float32, copy=False))
    try:
        parts = parts_of(arrays["split"]) if "split" in arrays else {}
        coarse = numbered(arrays["coarse_labels"]) if "coarse_labels" in arrays else None
        return Collection(features, numbered(arrays["labels"]), parts, coarse)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def numbered(labels: np.ndarray) -> Tensor:
    """Number ids that are names, or that begin elsewhere than at 0 or have gaps.

    Multi-hot rows stay as they are, and so does what is no id of a class.
    """
    names = labels.dtype.kind in "US"
    if labels.ndim != 1 or (not names and labels.dtype.kind not in "iu"):
        return integer(labels)
    found = np.unique(labels)
    negative = not names and bool((found[:1] < 0).any())
    if negative or np.array_equal(found, np.arange(len(found))):
        return integer(labels)
    ids: Tensor = LabelMap(labels)(labels)
    return ids


def integer(labels: np.ndarray) -> Tensor:
    """Take class ids as int64, and multi-hot rows as uint8."""
    if labels.dtype.kind not in "iub":
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    wanted = np.int64 if labels.ndim == 1 or labels.max(initial=0) > 1 else np.uint8
    return torch.from_numpy(labels.astype(wanted))


def parts_of(split: np.ndarray) -> dict[str, Tensor]:
    """Turn the part of each item into the ids of each part."""
    words = [set(str(text).split("+")) for text in split]
    strays = sorted(set().union(*words) - set(PARTS))
    if strays:
        raise ValueError(
            f"split must name parts ({', '.join(PARTS)}), got "
            f"{', '.join(map(repr, strays))}"
        )
    masks = {part: torch.tensor([part in word for word in words]) for part in PARTS}
    return {part: ids_of(mask) for part, mask in masks.items() if bool(mask.any())}


SOURCES.add(
    "features", Source(load_npz, "any feature set, a .npz file", LAYOUT, places=None)
)
_CIFAR = "cs.toronto.edu/~kriz/cifar.html"
for _name, _file, _trunk, _about, _protocol, _home in (
    (
        "cifar10-features",
        "cifar10_efficientnet_lite0",
        "EfficientNet-lite0",
        "CIFAR-10",
        "C-B",
        _CIFAR,
    ),
    (
        "cifar100-features",
        "cifar100_efficientnet_lite0",
        "EfficientNet-lite0",
        "CIFAR-100, 12,000 images",
        "given",
        _CIFAR,
    ),
    (
        "ucmerced-features",
        "ucmerced_multilabel_efficientnet_lite0",
        "EfficientNet-lite0",
        "UC Merced, 17 labels, several an image",
        "random",
        "weegee.vision.ucmerced.edu/datasets/landuse.html",
    ),
    (
        "cars196-features",
        "cars196_efficientnet_lite2",
        "EfficientNet-lite2",
        "Cars, 8,144 images of 196 models",
        "random",
        "Krause et al., 3dRR 2013",
    ),
    (
        "banking77-features",
        "banking77_minilm",
        "all-MiniLM-L6-v2",
        "banking77, 13,083 questions of 77 intents",
        "given",
        "Casanueva et al., 2020, arXiv:2003.04807",
    ),
):
    SOURCES.add(
        _name,
        Source(
            load_npz,
            f"{_about}: {_trunk} features",
            f"It is the file {{place}} of the data folder. {LAYOUT} Source: {_home}.",
            (f"{_file}.npz",),
            _protocol,
        ),
    )
