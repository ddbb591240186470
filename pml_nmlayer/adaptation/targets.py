"""What the head is asked for: a teacher of items, and codewords of known classes."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..classes.semantic_codebook import semantic_codebook
from .graph_weight import CLASS_WEIGHT, joined, narrowed
from .head import AnchorHead
from .multilabel import LabelMoments
from .teacher import neighbour_teacher
from .whitening import ClassMoments

LABEL_WEIGHT = 2.0  # of label probabilities beside diffusion, in the teacher
SPARSE_NEIGHBOURS = 5  # least, where the graph has fewer items a class than labels have
NEIGHBOURS = (15, 20, 40)  # least, without labels, most
DIMENSIONS = (16, 100)  # least and most
SHARPENING = 3.0  # of class probabilities, in the read-out
SPARE_CODEWORDS = 3
CODEWORD_SIZE = 2.0  # beside outputs whose mean square is 1
_MOST_CODEWORDS = 1000  # of more classes, the assignment takes its time
_OWN_DIRECTIONS = 256  # where the teacher keeps classes apart


def neighbourhood_size(moments: ClassMoments | LabelMoments, size: int) -> tuple[int, int]:
    """Choose neighbours and dimensions by the size of classes.

    Classes of the graph are taken to be as many as labelled ones, and at most as large.

    Args:
        moments: of the labelled items.
        size: number of items of the graph.

    Returns:
        neighbours of each item, and dimensions of the teacher.
    """
    if isinstance(moments, LabelMoments):
        return NEIGHBOURS[1], DIMENSIONS[1]
    counts = moments.counts[moments.counts > 0]
    if len(counts) < 2:
        return NEIGHBOURS[1], DIMENSIONS[1]
    each, here = float(counts.mean()), size / len(counts)
    neighbours = min(max(round(each / 4), NEIGHBOURS[0]), NEIGHBOURS[2])
    if here < each / 2:  # a part of a database: its classes are small
        each = here
        neighbours = min(max(round(each / 2), SPARSE_NEIGHBOURS), NEIGHBOURS[2])
    dimensions = min(max(round(2 * size / each), DIMENSIONS[0]), DIMENSIONS[1])
    return neighbours, dimensions


def item_teacher(
    z: Tensor,
    probabilities: Tensor | None,
    classes: Tensor,
    known: Tensor,
    shape: tuple[int, int],
    seed: int,
    *,
    weight: float = CLASS_WEIGHT,
    progress: bool = False,
) -> Tensor:
    """Diffuse over neighbours; add a direction of its own for each known class.

    The items of a class have one vector, their mean. Items that surely belong to known
    classes share the directions of these, as far as they are probable.

    Args:
        z: (N, D) features.
        probabilities: (N, C) class probabilities, or None.
        classes: (N,) class indices; -1: unlabelled.
        known: (N,) whether their class surely is a known one.
        shape: neighbours and dimensions, see `neighbourhood_size`.
        seed: of projections.
        weight: of class probabilities in the graph, see `graph_weight`.
        progress: show bars.

    Returns:
        (N, E) vectors of unit length.
    """
    narrow = None
    if probabilities is not None:
        narrow = narrowed(F.normalize(probabilities, dim=1), seed)
    teacher = _diffused(z, narrow, shape, seed, progress, weight)
    labelled = classes >= 0
    if not bool(known.any()):
        return teacher
    count = int(classes.max()) + 1 if probabilities is None else probabilities.shape[1]
    generator = torch.Generator().manual_seed(seed)
    shape_of_own = count, _OWN_DIRECTIONS
    own = torch.randn(shape_of_own, generator=generator, dtype=torch.float32)
    own = F.normalize(own, dim=1)
    directions = z.new_zeros(len(z), _OWN_DIRECTIONS)
    if probabilities is not None:
        mixed = probabilities[known] @ own
        directions[known] = mixed / mixed.norm(dim=1, keepdim=True).clamp(min=1)
    if bool(labelled.any()):
        directions[labelled] = own[classes[labelled]]
        sums = teacher.new_zeros(count, teacher.shape[1])
        sums.index_add_(0, classes[labelled], teacher[labelled])
        teacher[labelled] = F.normalize(sums, dim=1)[classes[labelled]]
    # both halves weigh the same where the class is certain
    rest = (1 - directions.square().sum(1, keepdim=True) / 2).sqrt()
    return torch.cat([rest * teacher, directions / 2**0.5], 1)


def label_teacher(
    z: Tensor,
    probabilities: Tensor | None,
    shape: tuple[int, int],
    seed: int,
    *,
    progress: bool = False,
) -> Tensor:
    """Diffuse over neighbours, beside the labels that items are likely to have.

    Args:
        z: (N, D) features.
        probabilities: (N, C) of each label, or None.
        shape: neighbours and dimensions.
        seed: of projections.
        progress: show bars.

    Returns:
        (N, E) vectors of unit length. Items that share labels are similar.
    """
    if probabilities is None:
        return _diffused(z, None, shape, seed, progress)
    # items without a sure label have a short vector: their neighbours decide
    known = probabilities / probabilities.norm(dim=1, keepdim=True).clamp(min=1)
    known = narrowed(known, seed)
    teacher = _diffused(z, known, shape, seed, progress)
    return F.normalize(torch.cat([teacher, LABEL_WEIGHT * known], 1), dim=1)


def _diffused(
    z: Tensor,
    known: Tensor | None,
    shape: tuple[int, int],
    seed: int,
    progress: bool,
    weight: float = CLASS_WEIGHT,
) -> Tensor:
    return neighbour_teacher(
        joined(z, known, weight),
        neighbours=shape[0],
        dimensions=shape[1],
        seed=seed,
        progress=progress,
    )


def sharpened(probabilities: Tensor) -> Tensor:
    """Make the likeliest class stand out: a mean of many codewords is no codeword.

    Args:
        probabilities: (N, C).

    Returns:
        (N, C), proportional to the third power.
    """
    return (SHARPENING * probabilities.clamp(min=1e-30).log()).softmax(1)


def give_codewords(
    head: AnchorHead,
    teacher: Tensor,
    classes: Tensor,
    known: Tensor,
    bits: int,
    seed: int,
) -> None:
    """Start known classes from a codebook, if most items of the graph belong to them.

    Args:
        head: changed in place.
        teacher: (N, E) vectors of the items.
        classes: (N,) class indices; -1: unlabelled.
        known: (N,) whether their class surely is a known one.
        bits: code length.
        seed: of the codebook.
    """
    count = head.class_words.shape[1]
    labelled = classes >= 0
    few_enough = 1 < count <= min(_MOST_CODEWORDS, 2 ** min(bits, 30))
    if not few_enough or 2 * int(known.sum()) < len(classes) or not bool(labelled.any()):
        return
    sums = teacher.new_zeros(count, teacher.shape[1])
    sums.index_add_(0, classes[labelled], teacher[labelled])
    spare = min(SPARE_CODEWORDS, 2 ** min(bits, 30) // count - 1)
    codewords = semantic_codebook(sums, bits, seed=seed % 2**31, spare=spare)
    head.class_words.copy_(CODEWORD_SIZE * codewords.T)
