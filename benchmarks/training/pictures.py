"""Images that a trunk is trained on: what the training loop asks of them.

`vision` loads them from files, batch by batch; `decoded` keeps all of them in memory.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Transform:
    """Scale the shorter side, cut out the centre, normalise as ImageNet models expect."""

    resize: int
    crop: int
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def describe(self) -> dict[str, Any]:
        return {**asdict(self), "interpolation": "bilinear, antialiased"}


class Epochs(Protocol):
    """What gives the batches of one epoch after the other."""

    def epoch(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield images (B, 3, H, W) of batches of positions, cut and mirrored or not."""


class Pictures(ABC):
    """Images that are counted, and picked by ids, like the rows of a tensor."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, ids: Tensor | slice) -> "Pictures": ...

    @abstractmethod
    def in_order(self, size: int) -> Iterable[Tensor]:
        """Give all images as they come, in batches, for evaluation."""

    @abstractmethod
    def feed(self) -> Epochs:
        """Make what gives batches for training."""
