"""Write the features of an image set once, so that heads train in seconds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..datasets import Collection, ImageFiles, load_collection
from ..results import write_file
from ..training.trunks import Trunk, features_of, load_trunk
from ..training.vision import FilePictures, torchvision
from .devices import check_device


def extract(
    dataset: str,
    trunk_name: str,
    out: Path,
    weights: str | None = None,
    root: Path | None = None,
    device: str = "cpu",
    batch_size: int = 64,
    processes: int = 1,
) -> tuple[int, int]:
    """Run a trunk over a set of images and write a feature set.

    Args:
        dataset: a name; a protocol in it plays no part.
        trunk_name: see `trunks.TRUNKS`.
        out: the .npz file, with `features`, `labels`, `split` as far as the set says who is
            what, and `note`, JSON on how the features were made.
        weights: see `trunks.load_trunk`.
        root: the data folder.
        device: where the trunk runs, see `devices.check_device`.
        batch_size: images at a time.
        processes: that load images.

    Returns:
        The shape of the features.

    Raises:
        ValueError: no images, or a trunk that cannot be made.
    """
    check_device(device)
    if out.suffix != ".npz":
        raise ValueError(f"features go to a .npz file, got --out {out}")
    collection = load_collection(dataset, root)
    files = collection.items
    if not isinstance(files, ImageFiles):
        raise ValueError(f"{dataset} holds feature vectors already; a trunk needs images")
    torchvision()  # before a long list of weights is read in vain
    trunk = load_trunk(trunk_name, weights)
    features = _features(trunk, files, device, batch_size, processes)
    arrays = {"features": features, "labels": collection.labels.numpy()}
    if collection.parts:
        arrays["split"] = _part_of_each(collection)
    note = {"dataset": dataset, "trunk": trunk_name, **_note(trunk)}
    arrays["note"] = np.array(json.dumps(note))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
    return features.shape[0], features.shape[1]


def _features(
    trunk: Trunk, files: ImageFiles, device: str, batch_size: int, processes: int
) -> np.ndarray:
    loaders = processes if processes > 1 else 0  # one needs no process beside this one
    loader = FilePictures(files, trunk.transform, loaders=loaders).in_order(batch_size)
    return features_of(trunk, tqdm(loader, unit="batch"), device).numpy()


def _part_of_each(collection: Collection) -> np.ndarray:
    """Name the parts of each item as `load_npz` reads them: "train+database"."""
    words: list[list[str]] = [[] for _ in range(len(collection.items))]
    for part, ids in collection.parts.items():
        for position in ids.tolist():
            words[position].append(part)
    return np.array(["+".join(names) for names in words])


def _note(trunk: Trunk) -> dict[str, Any]:
    return {
        "weights": trunk.weights,
        "weights_sha256": trunk.checksum,
        "transform": trunk.transform.describe(),
        "torch": torch.__version__,
        "torchvision": torchvision().__version__,
    }
