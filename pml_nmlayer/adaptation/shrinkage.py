"""How far to whiten: as far as it helps among classes that took no part in it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .neighbours import nearest_neighbours
from .whitening import ClassMoments, whitening_matrix

SHRINKAGES = (0.1, 0.4, 0.9)
DEFAULT = 0.4  # where there are too few classes to choose
JUDGED = 2000  # items of each half
_NEIGHBOURS = 10
_FEWEST = 4  # classes of each half


def halves_of(num_classes: int, *, seed: int = 0) -> Tensor:
    """Divide classes at random.

    Args:
        num_classes: C.
        seed: of the draw.

    Returns:
        (C,) 0 or 1, each for half of the classes.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(num_classes, generator=generator) % 2


def chosen_shrinkage(
    moments: Sequence[ClassMoments], items: Sequence[tuple[Tensor, Tensor]]
) -> float:
    """Whiten each half of the classes by the other; take what keeps classes together best.

    Classes that codes will have to tell apart are often other ones than those that whiten.

    Args:
        moments: of either half of the classes.
        items: features (N, D) and class indices (N,) of either half.

    Returns:
        the shrinkage under which most of the ten nearest neighbours have the item's class.
    """
    enough = all(int((part.counts >= 2).sum()) >= _FEWEST for part in moments)
    if not enough or any(len(x) <= _NEIGHBOURS for x, _ in items):
        return DEFAULT
    covariances = [part.within_class_covariance() for part in moments]

    def kept_together(shrinkage: float) -> float:
        found = 0.0
        for covariance, (x, classes) in zip(covariances, reversed(items), strict=True):
            matrix = whitening_matrix(covariance, shrinkage=shrinkage).float()
            points = F.normalize((x - x.mean(0)) @ matrix, dim=1)
            _, nearest = nearest_neighbours(points, _NEIGHBOURS)
            found += float((classes[nearest] == classes[:, None]).float().mean())
        return found

    return max(SHRINKAGES, key=kept_together)
