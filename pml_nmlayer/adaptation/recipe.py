"""The one default rule: from embeddings, labels if any, and a code length to a module."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..codewords import semantic_codebook
from .classifier import fit_classifier
from .clusters import spherical_kmeans
from .head import AnchorHead
from .rotation import rotated_components
from .rows import blocks, class_indices, take
from .teacher import neighbour_teacher
from .training import STEPS, train_head
from .whitening import ClassMoments, whitening_matrix

SAMPLE = 20_000  # items of the graph, and of the classifier
ANCHORS = 600
CLASS_WEIGHT = 0.3  # of class probabilities beside features, in the graph
NEIGHBOURS = (15, 20, 40)  # least, without labels, most
DIMENSIONS = (16, 100)  # least and most
SHARPENING = 3.0  # of class probabilities, in the read-out
SPARE_CODEWORDS = 3
CODEWORD_SIZE = 2.0  # beside outputs whose mean square is 1
_MOST_CODEWORDS = 1000  # of more classes, the assignment takes its time
_OWN_DIRECTIONS = 256  # where the teacher keeps classes apart
_WIDEST = 512  # probabilities of more classes are projected before the graph


@dataclass
class FittedCodes:
    """What `fit_codes` learned.

    Args:
        module: maps raw embeddings (N, D) to outputs (N, bits); their sign is the code.
        classes: (C, ...) the classes that labels named.
    """

    module: nn.Module
    classes: Any


@dataclass
class _Map:
    """z = matrix (x - centre)."""

    matrix: Tensor
    centre: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return (x - self.centre) @ self.matrix.T


@torch.no_grad()
def fit_codes(
    x: Any,
    y: Any = None,
    *,
    bits: int,
    random_state: int = 0,
    progress: bool = False,
    steps: int = STEPS,
) -> FittedCodes:
    """Learn codes from embeddings, and from labels as far as there are any.

    Unlabelled items are taken for the database that will be searched. A graph of their
    neighbours teaches the codes. Labels whiten the features and name known classes.

    Args:
        x: (N, D) array or tensor of embeddings.
        y: None, class ids (N,) or multi-hot rows (N, C); -1 or a row of -1: unlabelled.
        bits: code length.
        random_state: one seed always gives the same codes.
        progress: show a bar.
        steps: of training.

    Returns:
        the module from embeddings to outputs, and the classes.

    Raises:
        ValueError: x is not (N, D) with N >= 1 and finite values, or y does not fit.

    Example:
        >>> x = torch.randn(200, 16)
        >>> fit_codes(x, bits=8, steps=5).module(x).shape
        torch.Size([200, 8])
    """
    if x.ndim != 2 or len(x) == 0:
        raise ValueError(f"X must have shape (N, D) with N >= 1, got {tuple(x.shape)}")
    classes, names = class_indices(y, len(x))
    features, moments = _features(x, classes, len(names))
    generator = torch.Generator().manual_seed(random_state)
    labelled = _sample(torch.nonzero(classes >= 0).flatten(), generator)
    searched = _searched(classes, labelled, generator)
    classifier, trusted = None, None
    if len(names) > 1 and int(moments.counts.sum()) > len(names):
        weight, bias, trusted = fit_classifier(
            features(take(x, labelled)),
            classes[labelled],
            num_classes=len(names),
            seed=random_state,
        )
        classifier = SHARPENING * weight, SHARPENING * bias
    z = features(take(x, searched))
    probabilities = None
    if classifier is not None and trusted is not None:
        probabilities = F.linear(z, weight, bias).softmax(1)
        place = torch.full((len(x),), -1)
        place[labelled] = torch.arange(len(labelled))
        own = place[searched]
        probabilities[own >= 0] = trusted[own[own >= 0]]
    shape = _neighbourhood(moments, len(z))
    teacher = _teacher(z, probabilities, classes[searched], shape, random_state)
    count = max(1, min(ANCHORS, len(z) // 5))
    anchors = spherical_kmeans(F.normalize(z, dim=1), count, seed=random_state)
    head = AnchorHead(
        anchors, bits=bits, num_classes=0 if classifier is None else len(names)
    )
    wanted = rotated_components(teacher, bits, seed=random_state)
    sharp = None if probabilities is None else _sharpened(probabilities)
    head.start_from(wanted, z, sharp)
    _give_codewords(head, teacher, classes[searched], bits, random_state)
    with torch.enable_grad():
        train_head(
            head,
            z,
            sharp,
            teacher,
            steps=steps,
            seed=random_state,
            progress=progress,
        )
    if classifier is not None:
        classifier = _raw(classifier, features)
    return FittedCodes(head.fold(features.matrix, features.centre, classifier), names)


def _features(x: Any, classes: Tensor, count: int) -> tuple[_Map, ClassMoments]:
    """Whiten by the labelled items; centre on the unlabelled ones, if there are any."""
    moments = ClassMoments.empty(count, x.shape[1])
    unlabelled = classes < 0
    if not bool(unlabelled.any()):
        unlabelled = classes >= 0
    total = torch.zeros(x.shape[1], dtype=torch.float64)
    for rows, block in blocks(x):
        if not bool(block.isfinite().all()):
            raise ValueError("X holds NaN or inf: no codes can be learned from them")
        known = classes[rows] >= 0
        moments.update(block[known], classes[rows][known])
        total += block[unlabelled[rows]].double().sum(0)
    centre = total / int(unlabelled.sum())
    matrix = whitening_matrix(moments.within_class_covariance())
    features = _Map(matrix.float(), centre.float())
    probe = torch.linspace(0, len(x) - 1, min(len(x), 4096)).long()
    length = features(take(x, probe)).norm(dim=1).mean()
    if float(length) > 0:
        features.matrix /= length
    return features, moments


def _sample(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:SAMPLE]].sort().values


def _searched(classes: Tensor, labelled: Tensor, generator: torch.Generator) -> Tensor:
    """Choose the items of the graph: unlabelled ones, or all if those are few."""
    unlabelled = torch.nonzero(classes < 0).flatten()
    if len(unlabelled) * 4 >= int((classes >= 0).sum()):
        return _sample(unlabelled, generator)
    return _sample(torch.cat([labelled, unlabelled]), generator)


def _neighbourhood(moments: ClassMoments, size: int) -> tuple[int, int]:
    """Choose the number of neighbours and dimensions by the size of labelled classes."""
    counts = moments.counts[moments.counts > 0]
    if len(counts) < 2:
        return NEIGHBOURS[1], DIMENSIONS[1]
    each = float(counts.mean())
    neighbours = min(max(round(each / 4), NEIGHBOURS[0]), NEIGHBOURS[2])
    dimensions = min(max(round(2 * size / each), DIMENSIONS[0]), DIMENSIONS[1])
    return neighbours, dimensions


def _teacher(
    z: Tensor,
    probabilities: Tensor | None,
    classes: Tensor,
    shape: tuple[int, int],
    seed: int,
) -> Tensor:
    """Diffuse over neighbours; give the items of a class one vector, their mean."""
    points = F.normalize(z, dim=1)
    if probabilities is not None:
        known = F.normalize(probabilities, dim=1)
        if known.shape[1] > _WIDEST:
            generator = torch.Generator().manual_seed(seed)
            known = known @ torch.randn(known.shape[1], _WIDEST, generator=generator)
            known = known / _WIDEST**0.5
        points = F.normalize(torch.cat([points, CLASS_WEIGHT * known], 1), dim=1)
    teacher = neighbour_teacher(points, neighbours=shape[0], dimensions=shape[1], seed=seed)
    labelled = classes >= 0
    if bool(labelled.any()):
        sums = torch.zeros(int(classes.max()) + 1, teacher.shape[1])
        sums.index_add_(0, classes[labelled], teacher[labelled])
        generator = torch.Generator().manual_seed(seed)
        own = torch.randn(len(sums), _OWN_DIRECTIONS, generator=generator)
        means = torch.cat([F.normalize(sums, dim=1), F.normalize(own, dim=1)], 1)
        wide = F.pad(teacher, (0, _OWN_DIRECTIONS))
        wide[labelled] = F.normalize(means, dim=1)[classes[labelled]]
        return wide
    return teacher


def _sharpened(probabilities: Tensor) -> Tensor:
    """Make the likeliest class stand out: a mean of many codewords is no codeword."""
    return (SHARPENING * probabilities.clamp(min=1e-30).log()).softmax(1)


def _give_codewords(
    head: AnchorHead, teacher: Tensor, classes: Tensor, bits: int, seed: int
) -> None:
    """Start known classes from a codebook, if most items of the graph are labelled."""
    count = head.class_words.shape[1]
    labelled = classes >= 0
    few_enough = 1 < count <= min(_MOST_CODEWORDS, 2 ** min(bits, 30))
    if not few_enough or 2 * int(labelled.sum()) < len(classes):
        return
    sums = torch.zeros(count, teacher.shape[1])
    sums.index_add_(0, classes[labelled], teacher[labelled])
    spare = min(SPARE_CODEWORDS, 2 ** min(bits, 30) // count - 1)
    codewords = semantic_codebook(sums, bits, seed % 2**31, spare)
    head.class_words.copy_(CODEWORD_SIZE * codewords.T)


def _raw(classifier: tuple[Tensor, Tensor], features: _Map) -> tuple[Tensor, Tensor]:
    weight, bias = classifier
    composed = weight @ features.matrix
    return composed, bias - composed @ features.centre
