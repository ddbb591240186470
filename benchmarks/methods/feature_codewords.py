"""Control: codewords of classes without any merging, found in the features themselves."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from pml_nmlayer.codebooks import majority, tie_bits_of
from pml_nmlayer.codewords import codeword_nll, semantic_codebook
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.similarity import class_rows

from ..interface import Method, Problem, Unsuited, add_method
from ..training.vision import Pictures
from .hash_learner import HashLearner
from .loss_table import Loss, parts
from .pml_losses import PML


class Pulled(nn.Module):
    """A loss of tanh outputs, and the pull to codewords that `NMLoss` has after a merge.

    Args:
        loss: the loss.
        weight: of the pull.
    """

    codewords: Tensor

    def __init__(self, loss: nn.Module, weight: float) -> None:
        super().__init__()
        self.loss = loss
        self.weight = weight

    def forward(self, outputs: Tensor, labels: Tensor, tuples: None) -> Tensor:
        rows = class_rows(labels, len(self.codewords))
        tie_bits = tie_bits_of(outputs.shape[1]).to(outputs)
        targets = majority(rows, self.codewords.to(outputs), tie_bits)
        base: Tensor = self.loss(outputs, labels, tuples)
        return base + self.weight * codeword_nll(outputs, targets, tanh=True)


@dataclass
class FeatureCodewords(HashLearner):
    """A direct head whose loss gets codewords from class means of features."""

    def fit(self, features: Tensor | Pictures, labels: Tensor) -> None:
        """Find the codewords, then train."""
        assert isinstance(features, Tensor)
        assert isinstance(self.loss, Pulled)
        rows = class_rows(labels, self.problem.num_classes)
        means = rows.T @ features / rows.sum(0).clamp(min=1)[:, None]
        self.loss.codewords = semantic_codebook(means, self.problem.bits)
        super().fit(features, labels)


def pulled(loss: Loss, problem: Problem, codewords: float, **options: float) -> Method:
    """Train a direct head with codewords.

    Args:
        loss: of the table, without vectors of its own.
        problem: with the wanted width.
        codewords: weight of the pull.
        options: of the loss.

    Raises:
        Unsuited: images, which have no features to find codewords in.
    """
    if problem.trunk is not None:
        raise Unsuited("codewords are found in features, not in images")
    own = parts(loss, problem, problem.bits, options)
    own["loss"] = Pulled(own["loss"], codewords)
    head = ProgressiveHead(problem.width, bits=(problem.bits,))
    return FeatureCodewords(problem, head, **own)


add_method(
    "supcon_codewords",
    "SupCon direct, codewords of features",
    partial(pulled, PML["supcon"]),
    {**PML["supcon"].defaults, "codewords": 10.0},
    PML["supcon"].space,
)
