"""Names of version 0.1 that heads keep until 1.0."""

import warnings
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..classes.objectives import class_nll, codeword_nll, label_residual
from ..classes.read_out import ClassReadOut
from ..classes.terms import LABEL_RIDGE
from ..codes.convention import sign_ste
from .outputs import HeadOutputs


def renamed_lift(lift: bool) -> bool:
    """Warn of the old name of `constant_width`.

    Args:
        lift: its value.
    """
    _warn("lift", "constant_width")
    return lift


class OldNames:
    """What `ProgressiveHead` did itself once, and its parts do now."""

    if TYPE_CHECKING:
        activation: str | None
        classes: ClassReadOut | None
        constant_width: bool
        bits: int

        def unpack(self, embeddings: Tensor | HeadOutputs) -> HeadOutputs:
            """See `ProgressiveHead`."""

        def code_outputs(self, embeddings: Tensor, bits: int) -> Tensor:
            """See `ProgressiveHead`."""

    @property
    def lift(self) -> bool:
        """Old name of `constant_width`."""
        _warn("head.lift", "head.constant_width")
        return self.constant_width

    @property
    def classifier(self) -> nn.Linear | None:
        """Old name of the classifier of the class read-out."""
        _warn("head.classifier", "head.classes.classifier")
        return None if self.classes is None else self.classes.classifier

    @property
    def readout(self) -> float:
        """Strength of the class read-out; 0 without one."""
        return 0.0 if self.classes is None else self.classes.strength

    def class_nll(self, embeddings: Tensor, labels: Tensor) -> Tensor | None:
        """Cross-entropy of the class scores that outputs carry.

        Args:
            embeddings: outputs of this head in training mode.
            labels: class ids (B,) or multi-hot rows (B, C).
        """
        _warn("head.class_nll", "NMLoss.terms, or classes.objectives.class_nll")
        scores = self.unpack(embeddings).class_scores
        return None if scores is None else class_nll(scores, labels)

    def codeword_nll(
        self, embeddings: Tensor, labels: Tensor, bits: int | None = None
    ) -> Tensor | None:
        """How far outputs are from the codewords of their classes.

        Args:
            embeddings: outputs of this head.
            labels: class ids (B,) or multi-hot rows (B, C).
            bits: their length; None for the present one.
        """
        _warn("head.codeword_nll", "NMLoss.terms, or classes.objectives.codeword_nll")
        bits = self.bits if bits is None else bits
        if self.classes is None or bits not in self.classes.lengths:
            return None
        outputs = self.code_outputs(embeddings, bits)
        tanh = self.activation == "tanh"
        return codeword_nll(outputs, self.classes.targets(labels, bits), tanh=tanh)

    def label_residual(
        self, embeddings: Tensor, labels: Tensor, bits: int | None = None
    ) -> Tensor | None:
        """How well a ridge regression predicts labels from the bits.

        Args:
            embeddings: outputs of this head.
            labels: class ids (B,) or multi-hot rows (B, C).
            bits: their length; None for the present one.
        """
        _warn("head.label_residual", "NMLoss.terms, or classes.objectives.label_residual")
        if self.classes is None:
            return None
        outputs = self.code_outputs(embeddings, self.bits if bits is None else bits)
        codes = sign_ste(outputs if self.activation else outputs.tanh())
        return label_residual(codes, labels, self.classes.num_classes, LABEL_RIDGE)


def _warn(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is an old name, which leaves in 1.0; use {new}",
        DeprecationWarning,
        stacklevel=3,
    )
