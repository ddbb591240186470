"""From image files to tensors, by torchvision (the extra `vision`)."""

import importlib
import importlib.util
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .datasets import ImageFiles

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # operators live as long as their library


@dataclass(frozen=True)
class Transform:
    """Scale the shorter side, cut out the centre, normalise as ImageNet models expect."""

    resize: int
    crop: int
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def describe(self) -> dict[str, Any]:
        return {**asdict(self), "interpolation": "bilinear, antialiased"}


def torchvision() -> ModuleType:
    """Import torchvision.

    Raises:
        ValueError: it is not installed.
    """
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        raise ValueError(
            "images need torchvision; install it by pip install 'pml-nmlayer[vision]'"
        )
    _declare_operators(Path(found.origin).parent)
    return importlib.import_module("torchvision")


def _declare_operators(folder: Path) -> None:
    """Let a torchvision that was built for CUDA be imported beside a torch without it.

    Its operators (for detection; no trunk uses one) cannot be loaded then, and its import
    fails where it describes them. Declared without a body they can be described.
    """
    libraries = sorted(folder.glob("_C*.so")) + sorted(folder.glob("_C*.pyd"))
    if _declared or not libraries:
        return
    try:
        torch.ops.load_library(str(libraries[0]))
    except OSError:
        _declared.append(torch.library.Library("torchvision", "DEF"))
        for operator in _OPERATORS:
            _declared[0].define(operator)


class Images(torch.utils.data.Dataset[Tensor]):
    """Image files as tensors (3, H, W), for a DataLoader."""

    def __init__(self, files: ImageFiles, transform: Transform) -> None:
        self.files = files
        transforms = torchvision().transforms
        self.apply = transforms.Compose(
            [
                transforms.Resize(transform.resize, antialias=True),
                transforms.CenterCrop(transform.crop),
                transforms.ToTensor(),
                transforms.Normalize(transform.mean, transform.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        from PIL import Image

        path = self.files.root / self.files.names[index]
        try:
            with Image.open(path) as image:
                return self.apply(image.convert("RGB"))
        except OSError as error:  # what PIL raises for anything that is no image
            raise ValueError(f"{path} cannot be read as an image: {error}") from error


def batches_of(
    files: ImageFiles, transform: Transform, size: int, processes: int = 1
) -> "torch.utils.data.DataLoader[Tensor]":
    """Load images in order, in batches; with several processes beside this one."""
    workers = 0 if processes <= 1 else processes
    return torch.utils.data.DataLoader(Images(files, transform), size, num_workers=workers)
