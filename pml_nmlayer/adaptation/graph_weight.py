"""How much class probabilities count in the graph: nothing where they break it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .neighbours import nearest_neighbours
from .shrinkage import halves_of
from .teacher import neighbour_teacher

CLASS_WEIGHT = 0.3  # beside features of unit length
TRIED = 6000  # items of the trial
LOSS = 0.03  # of kept neighbours, that leaves probabilities out
_WIDEST = 512  # probabilities of more classes are projected
_FEWEST = 2  # classes of each half, and items of a class
_MOST_NEIGHBOURS = 100


def narrowed(known: Tensor, seed: int) -> Tensor:
    """Project probabilities of very many classes at random.

    Args:
        known: (N, C).
        seed: of the projection.

    Returns:
        (N, at most 512), with nearly the same inner products.
    """
    if known.shape[1] <= _WIDEST:
        return known
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(known.shape[1], _WIDEST, generator=generator, dtype=torch.float32)
    return known @ drawn / _WIDEST**0.5


def joined(z: Tensor, known: Tensor | None, weight: float = CLASS_WEIGHT) -> Tensor:
    """Points of the graph, where items are near if features and probabilities are alike.

    Args:
        z: (N, D) features.
        known: (N, C) probabilities of at most unit length, or None.
        weight: of these; 0 leaves them out.

    Returns:
        (N, D) or (N, D + C), of unit length.
    """
    points = F.normalize(z, dim=1)
    if known is None or weight == 0:
        return points
    return F.normalize(torch.cat([points, weight * known], 1), dim=1)


def graph_weight(
    z: Tensor,
    scores: Tensor,
    classes: Tensor,
    shape: tuple[int, int],
    *,
    seed: int,
    progress: bool = False,
) -> float:
    """Tell by half of the classes whether their probabilities may count in the graph.

    A classifier knows nothing of other classes, and yet has probabilities for their items.
    Where features are weak, these outweigh them. So the trial takes half of the classes for
    all that there are, and sees how well a diffusion keeps items together, those of either
    half.

    Args:
        z: (N, D) features of items, labelled ones among them.
        scores: (N, C) class scores, out of fold for labelled items.
        classes: (N,) class indices; -1: unlabelled.
        shape: neighbours and dimensions of the diffusion.
        seed: of the halves, and of the items that are tried.
        progress: show bars.

    Returns:
        `CLASS_WEIGHT`; 0 if items then keep fewer of their class among as many neighbours
        as a class has, by more than `LOSS` of these, or if too few labels tell.
    """
    half = halves_of(scores.shape[1], seed=seed) == 0
    generator = torch.Generator().manual_seed(seed)
    tried = torch.randperm(len(z), generator=generator)[:TRIED]
    z, scores, classes = z[tried], scores[tried][:, half], classes[tried]
    labelled = classes >= 0
    judged = classes[labelled]
    of_half = half[judged]
    parts = [judged[of_half].unique(), judged[~of_half].unique()]
    each = len(judged) // max(len(judged.unique()), 1)
    if each < _FEWEST or min(map(len, parts)) < _FEWEST:
        return 0.0
    count = min(each - 1, _MOST_NEIGHBOURS)
    probabilities = narrowed(F.normalize(scores.softmax(1), dim=1), seed)

    def kept_together(weight: float) -> float:
        points = joined(z, probabilities, weight)
        teacher = neighbour_teacher(
            points,
            neighbours=shape[0],
            dimensions=shape[1],
            seed=seed,
            progress=progress,
        )
        _, nearest = nearest_neighbours(teacher[labelled], count)
        kept = (judged[nearest] == judged[:, None]).float().mean(1)
        return float(kept[of_half].mean() + kept[~of_half].mean()) / 2

    return 0.0 if kept_together(0) - kept_together(CLASS_WEIGHT) > LOSS else CLASS_WEIGHT
