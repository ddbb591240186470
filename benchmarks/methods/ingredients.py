"""What `Hasher` is worth without an ingredient, and with merges by several rules.

Runs of one process that learn from the same items share what does not depend on the number
of bits. So their seconds say nothing.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pml_nmlayer.adaptation.head import SHARPNESS, AnchorHead
from pml_nmlayer.adaptation.recipe import Lesson, prepare, started_head
from pml_nmlayer.adaptation.rotation import rotated_components
from pml_nmlayer.adaptation.training import STEPS
from pml_nmlayer.layers import NMLayer
from pml_nmlayer.merging.scorers import Correlation, Prune, Random, Scorer

from ..interface import Encoded, Method, Problem, method
from ..registry import check_known
from . import quantizers
from .adapted import Adapted, seed_of_run, together

INGREDIENTS = (
    "whitening",
    "teacher",
    "clusters",
    "codebook",
    "training",
    "database",
    "labels",
)
LONG_STEPS = STEPS // 3  # before a merge; the others come after it
_BATCH = 512  # items whose pairs are looked at together


@dataclass
class Shared:
    """A lesson, its anchors, and long heads that were trained on it, by their length."""

    lesson: Lesson
    anchors: Tensor
    heads: dict[int, AnchorHead]

    def long_head(self, bits: int) -> AnchorHead:
        """Train the head from which merges begin; nobody may change it."""
        if bits not in self.heads:
            head = started_head(self.lesson, self.anchors, bits=bits)
            self.lesson.teach(head, steps=LONG_STEPS)
            self.heads[bits] = head
        return self.heads[bits]


_shared: dict[tuple[Any, ...], Shared] = {}
_MOST_SHARED = 4  # what one seed has


def shared(x: Tensor, y: Any, seed: int, *, whiten: bool = True) -> Shared:
    """Prepare a lesson, or look up what was prepared of the same items.

    Args:
        x: (N, D) embeddings.
        y: labels, -1 for none; or None.
        seed: of all that is drawn.
        whiten: see `prepare`.
    """
    key = (_digest(x), None if y is None else _digest(y), seed, whiten, STEPS, LONG_STEPS)
    if key not in _shared:
        if len(_shared) == _MOST_SHARED:
            del _shared[next(iter(_shared))]
        lesson = prepare(x, y, random_state=seed, whiten=whiten)
        _shared[key] = Shared(lesson, lesson.anchors(), {})
    return _shared[key]


def _digest(values: Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()


class WithoutOne(Adapted):
    """`Hasher` without one of `INGREDIENTS`."""

    def __init__(self, bits: int, seed: int, *, ingredient: str) -> None:
        check_known("ingredient", [ingredient], INGREDIENTS)
        super().__init__(bits, seed, linear=False)
        self.ingredient = ingredient

    def fit(self, features: Tensor, labels: Any, database: Any = None) -> None:
        """Learn from both, but for what is left out."""
        x, y = together(features, labels, database)
        if self.ingredient == "database":
            x, y = features, labels
        elif self.ingredient == "labels":
            x, y = database, None
        known = shared(x, y, self.seed, whiten=self.ingredient != "whitening")
        lesson, anchors = known.lesson, known.anchors
        if self.ingredient == "teacher":  # the features themselves
            lesson = replace(lesson, teacher=F.normalize(lesson.z, dim=1))
        if self.ingredient == "clusters":
            anchors = anchors[:0]
        head = started_head(lesson, anchors, bits=self.bits)
        if self.ingredient == "codebook":
            draw_codewords(head, self.seed)
        lesson.teach(head, steps=0 if self.ingredient == "training" else STEPS)
        self.module = lesson.fold(head)


@torch.no_grad()
def draw_codewords(head: AnchorHead, seed: int) -> None:
    """Give each cluster a code at random, as large as the one that it had."""
    words = head.anchor_words
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(2, words.shape, generator=generator) * 2 - 1
    words.copy_(signs * words.square().mean().sqrt())


@method("hasher_without", "Hasher without", family="adapted")
def hasher_without(problem: Problem, ingredient: str = "whitening") -> Method:
    """Learn as `Hasher` does, without one of its ingredients."""
    return WithoutOne(problem.bits, seed_of_run(), ingredient=ingredient)


Affine = tuple[
    Tensor, Tensor
]  # (K, L) and (K,): from outputs of a long code to a short one
Rule = Callable[["Long"], Affine]


class Long:
    """Outputs of a long code, by which a rule says how it gets short.

    Args:
        training: (N, L) of the training items.
        labels: of these, or None.
        database: (M, L) of the items that will be searched, without labels.
        bits: K.
        seed: of rules that draw.
    """

    def __init__(
        self, training: Tensor, labels: Any, database: Tensor, bits: int, seed: int
    ) -> None:
        self.training, self.labels, self.database = training, labels, database
        self.bits, self.seed = bits, seed

    def merged(self, scorer: Scorer, outputs: Tensor, labels: Any = None) -> Affine:
        """Merge by a graph of some of the outputs."""
        layer = NMLayer(outputs.shape[1], self.bits, scorer=scorer)
        parts = [None] if labels is None else labels.split(_BATCH)
        sizes = len(outputs) if labels is None else _BATCH
        for block, own in zip(outputs.split(sizes), parts, strict=True):
            layer.observe(block, own)
        layer.freeze()
        return layer.merge_matrix(), torch.zeros(self.bits)

    def rotated(self) -> Affine:
        """Project to principal components and rotate them towards signs; merge nothing."""
        short = rotated_components(self.database, self.bits, seed=self.seed).double()
        centre = self.database.double().mean(0)
        found = torch.linalg.lstsq(self.database.double() - centre, short).solution.T
        return found.float(), -(found @ centre).float()


RULES: dict[str, Rule] = {
    "graph_database": lambda long: long.merged(
        Correlation(weighting="equal"), long.database
    ),
    "graph_training": lambda long: long.merged(
        Correlation(weighting="equal"), long.training
    ),
    "random_groups": lambda long: long.merged(Random(seed=long.seed), long.database),
    "pruned": lambda long: long.merged(Prune(every_n_steps=1), long.training, long.labels),
    "free_rotation": lambda long: long.rotated(),
}
BEGUN = "_begun"  # ends the name of codes right after the merge


@torch.no_grad()
def shortened(head: AnchorHead, to_short: Affine, lesson: Lesson) -> AnchorHead:
    """Make the head whose outputs are those of a longer one, merged; of mean square 1."""
    matrix, offset = to_short
    classes, bits = head.class_words.shape[1], len(matrix)
    short = AnchorHead(head.anchor_weight / SHARPNESS, bits=bits, num_classes=classes)
    short.anchor_bias.copy_(head.anchor_bias)
    outputs = head(lesson.z, lesson.probabilities) @ matrix.T + offset
    size = outputs.square().mean().sqrt().clamp(min=1e-12)
    short.bias.copy_((matrix @ head.bias + offset) / size)
    for name in ("weight", "anchor_words", "class_words"):
        getattr(short, name).copy_(matrix @ getattr(head, name) / size)
    return short


class Merged:
    """The head of `Hasher`, begun long, merged by each rule, and trained on.

    All rules are given the same long head, and as many steps as `Hasher` has, together.
    """

    on_features = True
    uses_database = True

    def __init__(self, bits: int, seed: int, *, longest: int) -> None:
        if longest <= bits:
            raise ValueError(
                f"longest must exceed the {bits} bits of the code, got {longest}"
            )
        self.bits, self.seed, self.longest = bits, seed, longest

    def fit(self, features: Tensor, labels: Any, database: Any = None) -> None:
        """Learn a long code, and from it a short one by each rule."""
        known = shared(*together(features, labels, database), self.seed)
        lesson, head = known.lesson, known.long_head(self.longest)
        module = lesson.fold(head)
        long = Long(module(features), labels, module(database), self.bits, self.seed)
        self.modules: dict[str, nn.Module] = {}
        for name, rule in RULES.items():
            if name == "pruned" and labels is None:  # nothing says which bits matter
                continue
            short = shortened(head, rule(long), lesson)
            self.modules[name + BEGUN] = lesson.fold(short)
            lesson.teach(short, steps=STEPS - LONG_STEPS)
            self.modules[name] = lesson.fold(short)

    def encode(self, features: Tensor) -> Mapping[str, Encoded]:
        found: dict[str, Encoded] = {}
        with torch.no_grad():
            for name, module in self.modules.items():
                found |= quantizers.both_sides(name, module(features))
        return found

    def head_parameters(self) -> tuple[int, int]:
        module = self.modules["graph_database"]
        numbers = sum(each.numel() for each in module.state_dict().values())
        return numbers, numbers


@method(
    "hasher_merged",
    "Hasher from a longer code",
    tuple(name + end for name in RULES for end in ("", BEGUN)),
    family="adapted",
)
def hasher_merged(problem: Problem, longest: int = 96) -> Method:
    """Learn a long code as `Hasher` does, shorten it by several rules, and go on."""
    return Merged(problem.bits, seed_of_run(), longest=longest)
