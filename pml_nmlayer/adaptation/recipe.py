"""The one default rule: from embeddings, labels if any, and a code length to a module."""

from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .beliefs import read_beliefs
from .classifier import Linear
from .clusters import spherical_kmeans
from .features import FeatureMap, fit_features
from .graph_weight import TRIED, graph_weight
from .head import AnchorHead
from .rotation import rotated_components, rotated_towards
from .rows import blocks, read_labels, take, without_copies
from .targets import (
    SHARPENING,
    give_codewords,
    item_teacher,
    label_teacher,
    neighbourhood_size,
    sharpened,
)
from .training import STEPS, train_head

SAMPLE = 20_000  # items of the graph, and of the classifier
ANCHORS = 600
FEW_ANCHORS = 32
FEW = 0.4  # a smaller share of known classes leaves labelled items out of the graph


@dataclass
class FittedCodes:
    """What `fit_codes` learned.

    Args:
        module: maps raw embeddings (N, D) to outputs (N, bits); their sign is the code.
        classes: (C,) the classes that ids named, or the columns of multi-hot rows.
    """

    module: nn.Module
    classes: Any


@torch.no_grad()
def fit_codes(
    x: Any,
    y: Any = None,
    *,
    bits: int,
    random_state: int = 0,
    start: Linear | nn.Module | None = None,
    progress: bool = False,
    steps: int = STEPS,
    linear: bool = False,
) -> FittedCodes:
    """Learn codes from embeddings, and from labels as far as there are any.

    Unlabelled items are taken for the database that will be searched. A graph of their
    neighbours teaches the codes. Labels whiten the features and name known classes. Their
    items are in the graph, too, unless few unlabelled items belong to these classes.

    Args:
        x: (N, D) array or tensor of embeddings.
        y: None, class ids (N,) or multi-hot rows (N, C); -1 or a row of -1: unlabelled.
        bits: code length.
        random_state: from 0 to 2**32 - 1; one seed always gives the same codes.
        start: weight (bits, D) and bias (bits,) of a trained linear head, with whose
            outputs learning begins, beside those of the anchors. Or a module that
            `fit_codes` made earlier: bits then keep their places as far as that costs no
            quality.
        progress: show a bar.
        steps: of training; 0 leaves the closed-form start.
        linear: make one Linear, without anchors and class read-out.

    Returns:
        the module from embeddings to outputs, and the classes.

    Raises:
        ValueError: x is not (N, D) with N >= 1 and finite values, or y does not fit,
            start has another shape or width, or random_state is another.

    Example:
        >>> x = torch.randn(200, 16)
        >>> fit_codes(x, bits=8, steps=5).module(x).shape
        torch.Size([200, 8])
    """
    if not isinstance(random_state, Integral) or not 0 <= random_state < 2**32:
        raise ValueError(
            f"random_state must be a whole number from 0 to 2**32 - 1, got {random_state!r}"
        )
    if x.ndim != 2 or len(x) == 0:
        raise ValueError(f"X must have shape (N, D) with N >= 1, got {tuple(x.shape)}")
    if isinstance(start, tuple) and start[0].shape != (bits, x.shape[1]):
        raise ValueError(
            f"start must have weights of shape ({bits}, {x.shape[1]}), got "
            f"{tuple(start[0].shape)}"
        )
    if isinstance(start, nn.Module):
        width = start(take(x, slice(0, 1))).shape[1]
        if width != bits:
            raise ValueError(f"start must have {bits} outputs, one a bit, got {width}")
    lesson = prepare(x, y, random_state=int(random_state), progress=progress)
    if linear:  # the graph knows of classes all the same
        lesson = replace(lesson, probabilities=None, classifier=None)
    anchors = lesson.z[:0] if linear else lesson.anchors(progress=progress)
    begin: Linear | Tensor | None
    if isinstance(start, nn.Module):
        own = take(x, lesson.rows)
        begin = torch.cat([start(block) for _, block in blocks(own)])
    else:
        begin = start
    head = started_head(lesson, anchors, bits=bits, start=begin)
    lesson.teach(head, steps=steps, progress=progress)
    return FittedCodes(lesson.fold(head), lesson.names)


@dataclass
class Lesson:
    """What a head is to learn from, whatever its number of bits.

    Args:
        features: the map from embeddings to z.
        rows: (M,) the items that teach.
        z: (M, D) their features.
        classes: (M,) their class indices; -1: unlabelled. With several labels, 0: labelled.
        known: (M,) whether their class has labels, as far as that is certain.
        probabilities: (M, C) of their classes or labels as a read-out takes them, or None.
        classifier: weight and bias that make these of embeddings, or None.
        teacher: (M, E) vectors of unit length that say how items should rank each other.
        names: the classes, see `rows.Labels`.
        several: whether an item may have several labels.
        seed: of all that is drawn.
    """

    features: FeatureMap
    rows: Tensor
    z: Tensor
    classes: Tensor
    known: Tensor
    probabilities: Tensor | None
    classifier: Linear | None
    teacher: Tensor
    names: Any
    several: bool
    seed: int

    def anchors(self, *, progress: bool = False) -> Tensor:
        """Find the centroids (A, D) of the anchors; at most one for five of many items.

        Args:
            progress: show a bar.
        """
        points = F.normalize(self.z, dim=1)
        few = min(FEW_ANCHORS, len(points))  # else a few items had one code
        count = max(few, min(ANCHORS, len(points) // 5))
        return spherical_kmeans(points, count, seed=self.seed, progress=progress)

    def teach(
        self, head: AnchorHead, *, steps: int = STEPS, progress: bool = False
    ) -> None:
        """Train a head on it, in place.

        Args:
            head: from `started_head`.
            steps: of training; 0 for none.
            progress: show a bar.
        """
        with torch.enable_grad():
            train_head(
                head,
                self.z,
                self.probabilities,
                self.teacher,
                steps=steps,
                seed=self.seed,
                progress=progress,
            )

    def fold(self, head: AnchorHead) -> nn.Module:
        """Write a head as a module of embeddings.

        Args:
            head: from `started_head`.
        """
        return head.fold(self.features, self.classifier, several=self.several)


@torch.no_grad()
def prepare(
    x: Any,
    y: Any = None,
    *,
    random_state: int = 0,
    progress: bool = False,
    whiten: bool = True,
) -> Lesson:
    """Find out what a head is to learn.

    Args:
        x: as of `fit_codes`.
        y: as of `fit_codes`.
        random_state: seed.
        progress: show bars.
        whiten: whether labelled items whiten the features within their classes.

    Raises:
        ValueError: x is not finite, or y does not fit.
    """
    labels = read_labels(y, len(x))
    classes, several = labels.classes, labels.rows is not None
    features, moments = fit_features(
        x, labels, seed=random_state, progress=progress, whiten=whiten
    )
    generator = torch.Generator().manual_seed(random_state)
    labelled = torch.nonzero(classes >= 0).flatten()
    unlabelled = torch.nonzero(classes < 0).flatten()
    many = 4 * len(unlabelled) >= len(labelled)
    labelled, unlabelled = (_sample(rows, generator) for rows in (labelled, unlabelled))
    unlabelled = without_copies(x, unlabelled)
    own, others = (features(take(x, rows)) for rows in (labelled, unlabelled))
    beliefs = read_beliefs(own, others, labels, labelled, seed=random_state)
    alone = many
    if beliefs.share is not None:
        enough = many or len(unlabelled) >= 2 * len(labels.names)
        alone = beliefs.share < FEW and enough
    items = _graph_items(len(labelled), len(unlabelled), alone, generator)
    rows = torch.cat([labelled, unlabelled])[items]
    z, known = torch.cat([own, others])[items], beliefs.known[items]
    classifier, probabilities, sharp = None, None, None
    if beliefs.scores is not None and beliefs.classifier is not None:
        scores = beliefs.scores[items]
        probabilities = scores.sigmoid() if several else scores.softmax(1)
        sharp = probabilities if several else sharpened(probabilities)
        sharpening = 1.0 if several else SHARPENING
        weight, bias = beliefs.classifier
        classifier = features.of_raw(sharpening * weight, sharpening * bias)
    shape = neighbourhood_size(moments, len(z))
    if several:
        teacher = label_teacher(z, probabilities, shape, random_state, progress=progress)
    else:
        in_graph = 0.0
        if beliefs.scores is not None:
            judged = (own, beliefs.scores[: len(own)], classes[labelled])
            if bool((classes[rows] >= 0).any()):  # as they are in the graph
                judged = (z, beliefs.scores[items], classes[rows])
            size = neighbourhood_size(moments, min(len(judged[0]), TRIED))
            in_graph = graph_weight(*judged, size, seed=random_state, progress=progress)
        teacher = item_teacher(
            z,
            probabilities,
            classes[rows],
            known,
            shape,
            random_state,
            weight=in_graph,
            progress=progress,
        )
    return Lesson(
        features,
        rows,
        z,
        classes[rows],
        known,
        sharp,
        classifier,
        teacher,
        labels.names,
        several,
        random_state,
    )


@torch.no_grad()
def started_head(
    lesson: Lesson, anchors: Tensor, *, bits: int, start: Linear | Tensor | None = None
) -> AnchorHead:
    """Make a head in closed form, ready to be trained.

    Args:
        lesson: what it is to learn.
        anchors: (A, D) centroids, see `Lesson.anchors`.
        bits: code length.
        start: weight and bias of a trained map of embeddings, or earlier outputs
            (M, bits) of the items that teach, see `fit_codes`.
    """
    z, probabilities, seed = lesson.z, lesson.probabilities, lesson.seed
    classes = 0 if probabilities is None else probabilities.shape[1]
    head = AnchorHead(anchors, bits=bits, num_classes=classes)
    wanted = rotated_components(lesson.teacher, bits, seed=seed)
    if isinstance(start, Tensor):
        # earlier outputs, which bits should resemble, and what the teacher asks for
        size = start.square().mean().sqrt().clamp(min=1e-12)
        wanted = start / size + rotated_towards(wanted, start)
        wanted = wanted / wanted.square().mean().sqrt().clamp(min=1e-12)
    elif start is not None:
        own = (part.detach().cpu() for part in start)
        weight, bias = lesson.features.of_features(*own)
        size = F.linear(z, weight, bias).square().mean().sqrt().clamp(min=1e-12)
        head.weight.copy_(weight / size)
        head.bias.copy_(bias / size)
        wanted = rotated_towards(wanted, F.linear(z, head.weight, head.bias))
    head.start_from(wanted, z, probabilities)
    if not lesson.several and not isinstance(start, Tensor):  # else they have codewords
        give_codewords(head, lesson.teacher, lesson.classes, lesson.known, bits, seed)
    return head


def _sample(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:SAMPLE]].sort().values


def _graph_items(
    labelled: int, unlabelled: int, alone: bool, generator: torch.Generator
) -> Tensor:
    """Choose among sampled items those of the graph, at most half of it labelled ones.

    Args:
        labelled: number of labelled items, which come first.
        unlabelled: number of unlabelled items.
        alone: whether unlabelled items, if there are any, are the graph.
        generator: of what is left out where there are too many.

    Returns:
        their places.
    """
    if alone and unlabelled:
        return labelled + torch.arange(unlabelled)
    most = max(SAMPLE // 2, SAMPLE - unlabelled)
    kept = torch.randperm(labelled, generator=generator)[:most].sort().values
    also = torch.randperm(unlabelled, generator=generator)[: SAMPLE - len(kept)]
    return torch.cat([kept, labelled + also.sort().values])
