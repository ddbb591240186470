"""Controls: what `NMLoss` adds for classes, without any merging.

Codewords are found in the features themselves, not in a longer code.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pml_nmlayer.classes.codebooks import majority, tie_bits_of
from pml_nmlayer.classes.objectives import class_nll, codeword_nll, label_residual
from pml_nmlayer.classes.semantic_codebook import semantic_codebook
from pml_nmlayer.codes import sign_ste
from pml_nmlayer.heads.folding import Readout
from pml_nmlayer.heads.progressive_head import LABEL_RIDGE, READOUT
from pml_nmlayer.labels import class_rows
from pml_nmlayer.losses.nm_loss import (
    CLASS_WEIGHT,
    LABEL_WEIGHT,
    default_codeword_weight,
)

from ..interface import Method, Problem, Unsuited, add_method
from ..training.heads import make_head
from ..training.vision import Pictures
from .hash_learner import HashLearner
from .loss_table import Loss, parts
from .pml_losses import PML


class Told(nn.Module):
    """A head without merging that keeps the class scores of its last forward pass."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.scale = READOUT * math.sqrt(problem.num_classes / problem.bits)
        code = nn.Linear(problem.width, problem.bits)
        classes = nn.Linear(problem.width, problem.num_classes)
        words = nn.Linear(problem.num_classes, problem.bits, bias=False)
        self.readout = Readout(code, classes, words)
        words.requires_grad_(False)
        classes.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: object, scores: Tensor) -> None:
        self.scores = scores

    def set_codewords(self, codewords: Tensor) -> None:
        """Take codewords (C, bits)."""
        self.codewords = codewords
        self.tie_bits = tie_bits_of(codewords.shape[1])
        self.readout.words.weight.data.copy_(self.scale * codewords.T)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.readout(x))


class Readable(nn.Module):
    """A loss of tanh outputs, and that labels should be read from their signs.

    Args:
        loss: the loss.
        num_classes: C.
    """

    def __init__(self, loss: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.loss = loss
        self.num_classes = num_classes

    def forward(self, outputs: Tensor, labels: Tensor, tuples: None) -> Tensor:
        base: Tensor = self.loss(outputs, labels, tuples)
        return base + _reading(outputs, labels, self.num_classes)


def _reading(outputs: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    residual = label_residual(sign_ste(outputs), labels, num_classes, LABEL_RIDGE)
    return LABEL_WEIGHT * residual


class Pulled(nn.Module):
    """A loss of tanh outputs, and what `NMLoss` adds to it after a merge.

    Args:
        loss: the loss.
        head: whose outputs they are.
    """

    def __init__(self, loss: nn.Module, head: Told) -> None:
        super().__init__()
        self.loss = loss
        self.told = (head,)  # in a tuple, as its parameters are not the loss'

    def forward(self, outputs: Tensor, labels: Tensor, tuples: None) -> Tensor:
        (head,) = self.told
        classes, bits = head.codewords.shape
        base: Tensor = self.loss(outputs, labels, tuples)
        base = base + CLASS_WEIGHT * class_nll(head.scores, labels)
        base = base + _reading(outputs, labels, classes)
        rows = class_rows(labels, classes).to(outputs)
        targets = majority(rows, head.codewords.to(outputs), head.tie_bits.to(outputs))
        weight = default_codeword_weight(classes, bits)
        return base + weight * codeword_nll(outputs, targets, tanh=True)


@dataclass
class FeatureCodewords(HashLearner):
    """A direct head whose loss gets codewords from class means of features."""

    def fit(self, features: Tensor | Pictures, labels: Tensor) -> None:
        """Find the codewords, then train."""
        assert isinstance(features, Tensor)
        assert isinstance(self.head, Told)
        rows = class_rows(labels, self.problem.num_classes)
        means = rows.T @ features / rows.sum(0).clamp(min=1)[:, None]
        self.head.set_codewords(semantic_codebook(means, self.problem.bits))
        super().fit(features, labels)


def readable(loss: Loss, problem: Problem, **options: float) -> Method:
    """Train a direct head that ends in tanh.

    Args:
        loss: of the table.
        problem: with the wanted width.
        options: of the loss.
    """
    own = parts(loss, problem, problem.bits, options)
    head = make_head(problem.width, (problem.bits,))
    own["loss"] = Readable(own["loss"], problem.num_classes)
    return HashLearner(problem, head, **own)


def pulled(loss: Loss, problem: Problem, **options: float) -> Method:
    """Train a direct head with codewords.

    Args:
        loss: of the table, without vectors of its own.
        problem: with the wanted width.
        options: of the loss.

    Raises:
        Unsuited: images, which have no features to find codewords in.
    """
    if problem.trunk is not None:
        raise Unsuited("codewords are found in features, not in images")
    own = parts(loss, problem, problem.bits, options)
    head = Told(problem)
    own["loss"] = Pulled(own["loss"], head)
    return FeatureCodewords(problem, head, **own)


for _name, _label, _factory in (
    ("supcon_codewords", "SupCon, codewords and classifier, no merge", pulled),
    ("supcon_labels", "SupCon, labels read from bits, no merge", readable),
):
    add_method(
        _name,
        _label,
        partial(_factory, PML["supcon"]),
        defaults=PML["supcon"].defaults,
        space=PML["supcon"].space,
        family="control",
        loss="supcon",
    )
