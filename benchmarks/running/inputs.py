"""What methods of a run learn from: vectors as they are, or images before a trunk."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import PIL
from torch import Tensor

from ..datasets import ImageFiles, Items
from ..results import Spec
from ..suites import FILES, MEMORY, QualitySuite
from ..training.decoded import decode
from ..training.pictures import Pictures
from ..training.seeding import seeded
from ..training.trunks import MLP, TRUNKS, Trunk, features_of, load_trunk
from ..training.vision import FilePictures, torchvision
from .devices import Machine


@dataclass(frozen=True)
class Inputs:
    """All items of a set, and what stands between them and a head.

    Args:
        items: what a method trains a trunk on.
        problem: fields of `Problem` that depend on items and trunk.
        about: what a result says of the trunk.
        frozen: arguments of `_frozen_features`; None if items are vectors.
    """

    items: Tensor | Pictures
    problem: dict[str, Any]
    about: dict[str, Any]
    frozen: tuple[Any, ...] | None = None

    def of(self, method: object) -> Tensor | Pictures:
        """Return what a method is to be given."""
        if self.frozen is None or not getattr(method, "on_features", False):
            return self.items
        return _frozen_features(*self.frozen)


def open_inputs(spec: Spec, items: Items, machine: Machine) -> Inputs:
    """Set up what the spec of a run says of its trunk.

    Raises:
        ValueError: images without a trunk for images, or vectors with one.
    """
    name = spec.get("trunk", MLP)
    if isinstance(items, Tensor):
        if name != MLP:
            raise ValueError(
                f"{spec['dataset']} holds feature vectors, but trunk {name} needs images; "
                "leave `trunk` out of the suite"
            )
        return Inputs(items, {"in_features": items.shape[1]}, {"trunk": MLP})
    if name == MLP:
        raise ValueError(
            f"{spec['dataset']} holds images, and trunk {MLP} needs feature vectors. Say "
            f"`trunk: NAME` in the suite ({', '.join(TRUNKS)}) to train from images; or "
            "write features first, by `python -m benchmarks extract --dataset "
            f"{spec['dataset']} --trunk NAME --out FILE.npz`, and name features:FILE.npz "
            "in the suite"
        )
    return _behind_a_trunk(spec, items, machine)


def _behind_a_trunk(spec: Spec, files: ImageFiles, machine: Machine) -> Inputs:
    trunk = load_trunk(spec["trunk"], spec["weights"], seed=spec["seed"])
    pictures, how = _pictures(spec, files, trunk, machine)
    problem = {
        "in_features": trunk.width,
        "width": trunk.width,
        "trunk": trunk.network,
        "trunk_lr_factor": spec["trunk_lr_factor"],
    }
    about = {
        "trunk": spec["trunk"],
        "weights": trunk.weights,
        "weights_sha256": trunk.checksum,
        "transform": trunk.transform.describe(),
        **how,
    }
    frozen = (pictures, spec["trunk"], spec["weights"], spec["batch_size"], machine.device)
    return Inputs(pictures, problem, about, frozen)


def _pictures(
    spec: Spec, files: ImageFiles, trunk: Trunk, machine: Machine
) -> tuple[Pictures, dict[str, Any]]:
    """Open images as the suite says, and tell with what they are read."""
    if spec.get("loader", FILES) == MEMORY:
        size = spec.get("image_size")
        transform = trunk.transform
        if size is not None:
            transform = replace(transform, resize=size, crop=size)
        decoded = decode(files, transform, spec["augment"], machine.device)
        exact = "bfloat16" if machine.device.startswith("cuda") else "float32"
        return decoded, {
            "transform": transform.describe(),
            "pillow": PIL.__version__,
            "precision": exact,
        }
    pin = machine.device.startswith("cuda")
    pictures = FilePictures(
        files, trunk.transform, spec["augment"], machine.loaders, pin=pin
    )
    return pictures, {"torchvision": torchvision().__version__}


@lru_cache(maxsize=1)  # a worker mostly sees one set, again and again
def _frozen_features(
    pictures: Pictures, name: str, weights: str | None, batch_size: int, device: str
) -> Tensor:
    """Run an untrained trunk over all images: the same features for every seed."""
    trunk = load_trunk(name, weights)
    with seeded(0):  # a loader draws, and what is found here must not change what follows
        return features_of(trunk, pictures.in_order(batch_size), device)


def check_inputs(suite: QualitySuite, machine: Machine) -> None:
    """Refuse before anything starts what no run of a suite could do.

    Raises:
        ValueError: no torchvision, no weights, or loaders where there is nothing to load.
    """
    if machine.loaders and (suite.trunk == MLP or suite.loader == MEMORY):
        what = f"trunk {MLP} takes features" if suite.trunk == MLP else f"loader {MEMORY}"
        raise ValueError(
            f"--loaders is for suites that load images while they train; {suite.name} does "
            f"not ({what}): leave it out"
        )
    if suite.trunk != MLP:
        if suite.loader == FILES:
            torchvision()
        load_trunk(suite.trunk, suite.weights)
