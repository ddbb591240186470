"""Controls: what `NMLoss` adds for classes, without any merging.

Codewords are found in the features themselves, not in a longer code.
"""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from pml_nmlayer.classes.semantic_codebook import semantic_codebook
from pml_nmlayer.labels import class_rows
from pml_nmlayer.layers import ProgressiveHead

from ..interface import Method, Problem, Unsuited, add_method
from ..training.heads import make_head, make_nm_loss
from ..training.pictures import Pictures
from .hash_learner import HashLearner
from .loss_table import Loss, parts
from .pml_losses import PML


@dataclass
class FeatureCodewords(HashLearner):
    """A direct head that gets codewords from class means of features."""

    def fit(self, features: Tensor | Pictures, labels: Tensor) -> None:
        """Find the codewords, then train."""
        assert isinstance(features, Tensor)
        assert isinstance(self.head, ProgressiveHead)
        assert self.head.classes is not None
        rows = class_rows(labels, self.problem.num_classes)
        means = rows.T @ features / rows.sum(0).clamp(min=1)[:, None]
        self.head.classes.set_codewords(semantic_codebook(means, self.problem.bits))
        super().fit(features, labels)

    def head_parameters(self) -> tuple[int, int]:
        """Count codewords, which are served as weights, in training, too."""
        training, serving = super().head_parameters()
        assert isinstance(self.head, ProgressiveHead)
        return training + self.head.codewords().numel(), serving


def readable(loss: Loss, problem: Problem, **options: float) -> Method:
    """Train a direct head, whose bits a ridge regression should predict labels from.

    Args:
        loss: of the table.
        problem: with the wanted width.
        options: of the loss.
    """
    own = parts(loss, problem, problem.bits, options)
    classes = problem.num_classes
    head = make_head(problem.width, (problem.bits,), num_classes=classes, readout=0)
    own["loss"] = make_nm_loss(own["loss"], head, codeword_weight=0)
    return HashLearner(problem, head, **own)


def pulled(loss: Loss, problem: Problem, **options: float) -> Method:
    """Train a direct head with codewords and a classifier.

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
    head = make_head(problem.width, (problem.bits,), num_classes=problem.num_classes)
    own["loss"] = make_nm_loss(own["loss"], head)
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
