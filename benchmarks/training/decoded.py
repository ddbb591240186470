"""Images that are decoded once and stay on the device as bytes: no loader in the way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..datasets import ImageFiles
from .pictures import Pictures, Transform

SHIFT = 8  # a random cut moves by at most 1/SHIFT of the side, mirrored at the border
_EVALUATED = 500  # images at a time: batch norm does not look at its batch there


@dataclass(frozen=True)
class Decoded(Pictures):
    """Bytes of images on a device, and the rows of them that are meant.

    Args:
        images: all of a set, uint8 (N, S, S, 3), on the device.
        rows: positions of those that are meant, on the CPU.
        transform: which a trunk expects; sizes are done with.
        augment: training images are shifted and mirrored at random, on the device.
    """

    images: Tensor
    rows: Tensor
    transform: Transform
    augment: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, ids: Tensor | slice) -> "Decoded":
        return replace(self, rows=self.rows[ids])

    def in_order(self, size: int) -> Iterator[Tensor]:
        for rows in self.rows.split(max(size, _EVALUATED)):
            yield self._normalised(self.images[rows.to(self.images.device)])

    def feed(self) -> "Decoded":
        return self

    def epoch(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the batches; what is random is drawn from the CPU's generator."""
        for places in batches:
            rows = self.rows[places].to(self.images.device)
            found = self._cut(rows) if self.augment else self.images[rows]
            yield self._normalised(found)

    def _cut(self, rows: Tensor) -> Tensor:
        """Shift and mirror each image by itself: one gather for the whole batch."""
        count, side = len(rows), self.images.shape[1]
        most = side // SHIFT
        shifts = torch.randint(2 * most + 1, (2, count, 1)) - most
        mirrored = torch.rand(count, 1) < 0.5
        places = torch.arange(side)
        down, across = (_inside(places + shift, side) for shift in shifts)
        across = torch.where(mirrored, across.flip(1), across)
        down, across = down.to(rows.device), across.to(rows.device)
        return self.images[rows[:, None, None], down[:, :, None], across[:, None, :]]

    def _normalised(self, images: Tensor) -> Tensor:
        """Make floats (B, 3, S, S); in memory the channels stay last."""
        mean, std = (
            torch.tensor(values, device=images.device)
            for values in (self.transform.mean, self.transform.std)
        )
        return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def _inside(places: Tensor, side: int) -> Tensor:
    """Mirror positions at the border of an image."""
    places = places.abs()
    return torch.where(places >= side, 2 * (side - 1) - places, places)


def decode(files: ImageFiles, transform: Transform, augment: bool, device: str) -> Decoded:
    """Read all images of a set, once for each process and device.

    Raises:
        ValueError: a file is no image.
    """
    images = _bytes_of(files, transform.resize, transform.crop, device)
    return Decoded(images, torch.arange(len(files)), transform, augment)


@lru_cache(maxsize=1)  # a worker mostly sees one set, again and again
def _bytes_of(files: ImageFiles, resize: int, crop: int, device: str) -> Tensor:
    images = torch.empty(len(files), crop, crop, 3, dtype=torch.uint8)
    for place, name in enumerate(files.names):
        images[place] = torch.from_numpy(read_image(files, name, resize, crop))
    return images.to(device)


def read_image(files: ImageFiles, name: str, resize: int, crop: int) -> np.ndarray:
    """Read one image: the shorter side scaled, the centre cut out."""
    from PIL import Image

    path = files.root / name
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except OSError as error:  # what PIL raises for anything that is no image
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    shorter = min(image.size)
    if shorter != resize:
        size = [max(round(side * resize / shorter), resize) for side in image.size]
        image = image.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    left, top = ((side - crop) // 2 for side in image.size)
    return np.array(image.crop((left, top, left + crop, top + crop)))
