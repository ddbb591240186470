"""Trunks that turn images into feature vectors, and where their weights come from."""

import hashlib
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from ..registry import Registry
from .pictures import Transform
from .resnet9 import NARROW, resnet9
from .seeding import seeded
from .vision import torchvision

RANDOM = "random"
MLP = "mlp"  # one layer on features: made by `learner`, and no trunk for images
_IMAGENET = Transform(resize=256, crop=224)
_SMALL = Transform(resize=32, crop=32)


@dataclass(frozen=True)
class TrunkEntry:
    """How a trunk is made.

    Args:
        make: the network as its weights were saved, all layers included.
        cut: leaves off what stands behind the features.
        transform: of the images.
        weights: torchvision's name of published weights; None if there are none.
        learned: the trunk has weights at all.
    """

    make: Callable[[], nn.Module]
    cut: Callable[[nn.Module], nn.Module]
    transform: Transform
    weights: str | None = None
    learned: bool = True


@dataclass(frozen=True)
class Trunk:
    """A network in evaluation mode, its transform, and where its weights came from."""

    network: nn.Module
    transform: Transform
    weights: str
    checksum: str | None

    @property
    def width(self) -> int:
        """The number of features."""
        crop = self.transform.crop
        with torch.no_grad():
            return self.network(torch.zeros(1, 3, crop, crop)).shape[1]


TRUNKS: Registry[TrunkEntry] = Registry("trunk")


def load_trunk(name: str, weights: str | None = None, seed: int = 0) -> Trunk:
    """Make a trunk.

    Args:
        name: see `TRUNKS`.
        weights: a file with a state dictionary, "random" (for tests), or None for the file
            that torchvision keeps in its cache. Nothing is downloaded.
        seed: of random weights.

    Raises:
        ValueError: unknown trunk, or weights that are missing or do not fit.
    """
    entry = TRUNKS[name]
    if not entry.learned:
        if weights is not None:
            raise ValueError(
                f"trunk {name} has no weights; leave --weights (weights: in a suite) out"
            )
        return Trunk(entry.cut(entry.make()).eval(), entry.transform, "none", None)
    with seeded(seed):
        network, checksum = entry.make(), None
    if weights != RANDOM:
        path = _cached(name, entry) if weights is None else Path(weights)
        _load_weights(network, name, path)
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        weights = path.name
    return Trunk(entry.cut(network).eval(), entry.transform, weights, checksum)


def features_of(trunk: Trunk, batches: Iterable[Tensor], device: str) -> Tensor:
    """Run a trunk as it is over batches of images: (N, width), on the CPU."""
    network = trunk.network.to(device)
    with torch.no_grad():
        return torch.cat([network(images.to(device)).cpu() for images in batches]).float()


def default_lr_factor(name: str, weights: str | None) -> float:
    """Train a trunk that has learned already a tenth as fast as its head."""
    return 0.1 if TRUNKS[name].learned and weights != RANDOM else 1.0


def _cached(name: str, entry: TrunkEntry) -> Path:
    if entry.weights is None:
        raise ValueError(
            f"there are no published weights of trunk {name}; name a file by --weights "
            "FILE (weights: FILE in a suite), or say random for untrained ones"
        )
    url = torchvision().models.get_weight(entry.weights).url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.is_file():
        raise ValueError(
            f"weights of trunk {name} are missing, and nothing is downloaded: put {url} "
            f"at {path}, or name a file by --weights FILE (weights: FILE in a suite), or "
            "say random for untrained ones"
        )
    return path


def _load_weights(network: nn.Module, name: str, path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"there is no file {path} with weights of trunk {name}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except (RuntimeError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} does not hold a state dictionary of the whole trunk {name}: {reason}"
        ) from error


def small_cnn() -> nn.Module:
    """Make three convolutions for small pictures: (B, 3, H, W) -> (B, 128)."""
    widths = (3, 32, 64, 128)
    blocks: list[nn.Module] = []
    for before, after in pairwise(widths):
        blocks += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: torchvision().models.get_model(name, weights=None)


def _without(attribute: str) -> Callable[[nn.Module], nn.Module]:
    def cut(network: nn.Module) -> nn.Module:
        setattr(network, attribute, nn.Identity())
        return network

    return cut


def _fc7(network: nn.Module) -> nn.Module:
    classifier = network.get_submodule("classifier")
    assert isinstance(classifier, nn.Sequential)
    classifier[-1] = nn.Identity()
    return network


def _whole(network: nn.Module) -> nn.Module:
    return network


for _name, _entry in {
    "pixels": TrunkEntry(nn.Flatten, _whole, _SMALL, learned=False),
    "small_cnn": TrunkEntry(small_cnn, _whole, _SMALL),
    "resnet9": TrunkEntry(resnet9, _whole, _SMALL),
    "resnet9_narrow": TrunkEntry(partial(resnet9, NARROW), _whole, _SMALL),
    "alexnet": TrunkEntry(
        _torchvision("alexnet"), _fc7, _IMAGENET, "AlexNet_Weights.IMAGENET1K_V1"
    ),
    "resnet50": TrunkEntry(
        _torchvision("resnet50"),
        _without("fc"),
        _IMAGENET,
        "ResNet50_Weights.IMAGENET1K_V1",
    ),
    "vit_b_16": TrunkEntry(
        _torchvision("vit_b_16"),
        _without("heads"),
        _IMAGENET,
        "ViT_B_16_Weights.IMAGENET1K_V1",
    ),
}.items():
    TRUNKS.add(_name, _entry)
