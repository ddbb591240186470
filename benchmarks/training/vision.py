"""From image files to tensors, by torchvision (the extra `vision`)."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..datasets import ImageFiles
from .pictures import Pictures, Transform
from .seeding import seeded

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# A process that is started afresh imports for seconds; elsewhere than on Linux it has to.
_START = "fork" if sys.platform == "linux" else None
_LEAST_AREA = 0.5  # of an image that a random cut keeps
_declared: list[torch.library.Library] = []  # operators live as long as their library


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
        self.transform = transform

    @cached_property  # made where it is used: a loading process imports it for itself
    def apply(self) -> Callable[[Any], Tensor]:
        transforms = torchvision().transforms
        return transforms.Compose(
            [
                *self._cuts(transforms),
                transforms.ToTensor(),
                transforms.Normalize(self.transform.mean, self.transform.std),
            ]
        )

    def _cuts(self, transforms: ModuleType) -> list[Any]:
        return [
            transforms.Resize(self.transform.resize, antialias=True),
            transforms.CenterCrop(self.transform.crop),
        ]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Tensor:
        return self._read(index)

    def _read(self, index: int) -> Tensor:
        from PIL import Image

        path = self.files.root / self.files.names[index]
        try:
            with Image.open(path) as image:
                return self.apply(image.convert("RGB"))
        except OSError as error:  # what PIL raises for anything that is no image
            raise ValueError(f"{path} cannot be read as an image: {error}") from error


class AugmentedImages(Images):
    """Random cuts, mirrored or not; an item is asked for as (position, seed)."""

    def _cuts(self, transforms: ModuleType) -> list[Any]:
        return [
            transforms.RandomResizedCrop(
                self.transform.crop, scale=(_LEAST_AREA, 1.0), antialias=True
            ),
            transforms.RandomHorizontalFlip(),
        ]

    def __getitem__(self, index: Any) -> Tensor:
        position, seed = index
        with seeded(seed):
            return self._read(position)


@dataclass(frozen=True)
class FilePictures(Pictures):
    """Image files, loaded whenever they are needed.

    Args:
        files: where they lie.
        transform: which a trunk expects.
        augment: training images are cut and mirrored at random.
        loaders: processes that load; 0 for this one. What they load does not depend on it.
        pin: load into memory that a CUDA device can copy from while it computes.
    """

    files: ImageFiles
    transform: Transform
    augment: bool = False
    loaders: int = 0
    pin: bool = False

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, ids: Tensor | slice) -> "FilePictures":
        positions = torch.arange(len(self))[ids].tolist()
        names = tuple(self.files.names[position] for position in positions)
        return replace(self, files=ImageFiles(self.files.root, names))

    def in_order(self, size: int) -> Iterable[Tensor]:
        rows = [rows.tolist() for rows in torch.arange(len(self)).split(size)]
        return self.loader(Images(self.files, self.transform), rows, False)

    def feed(self) -> "Feed":
        return Feed(self)

    def loader(
        self, images: Images, batches: Sequence[list[Any]], again: bool
    ) -> "torch.utils.data.DataLoader[Tensor]":
        """Make what loads batches; `again` keeps its processes from epoch to epoch."""
        return torch.utils.data.DataLoader(
            images,
            batch_sampler=batches,
            num_workers=self.loaders,
            pin_memory=self.pin,
            persistent_workers=again and self.loaders > 0,
            multiprocessing_context=_START if self.loaders else None,
        )


class Feed:
    """Loads batches of images for training, epoch after epoch with the same processes."""

    def __init__(self, pictures: FilePictures) -> None:
        self.augment = pictures.augment
        kind = AugmentedImages if self.augment else Images
        self._asked: list[list[Any]] = []  # what the loader goes through, epoch by epoch
        self._loader = pictures.loader(
            kind(pictures.files, pictures.transform), self._asked, True
        )

    def epoch(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Load batches of positions."""
        asked: list[list[Any]] = [rows.tolist() for rows in batches]
        if self.augment:
            # A seed an image: the number of processes and their order decide about nothing.
            asked = [
                list(zip(rows, torch.randint(2**31, (len(rows),)).tolist(), strict=True))
                for rows in asked
            ]
        self._asked[:] = asked
        yield from self._loader
