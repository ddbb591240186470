"""What a loss adds so that codes tell the classes of the training apart."""

import math
from dataclasses import dataclass

from torch import Tensor

from .objectives import class_nll, code_terms
from .read_out import ClassReadOut

# How they were chosen: docs/defaults.md
CLASS_WEIGHT = 1.0
LABEL_WEIGHT = 3.0
LABEL_RIDGE = 0.3
WIDE_CODEWORD_WEIGHT = 10.0  # against class vectors of the loss, which pull elsewhere


@dataclass(frozen=True, kw_only=True)
class ClassTerms:
    r"""The three terms that `NMLoss` adds for a head with `num_classes`, by their weights.

    Formula:  codeword_weight · `codeword_nll` of the outputs and the codewords of their
              classes (pulls items to them, where there are codewords)
              + label_weight · `label_residual` of the bits (a ridge regression predicts the
              labels from the bits of the batch)
              + class_weight · `class_nll` of the class scores (teaches the classifier).

    Args:
        codeword_weight: >= 0, no unit. None for max(0, 1 - K / C), with K the bits of the
            shortest code and C the classes: no linear map tells more classes than bits
            apart. With constant width and class ids None stands for 10, since the loss then
            has class vectors that pull elsewhere.
        label_weight: >= 0, no unit. None for 3.
        class_weight: >= 0, no unit. None for 1, or 0 without a classifier. With 0 the
            classifier learns through the codes alone.

    Raises:
        ValueError: a weight that is negative or no number.

    Source:   this package; see the three functions.  Differs: no.

    Example:
        >>> read_out = ClassReadOut(16, 10, bits=(4,))
        >>> ClassTerms(label_weight=2).for_head(read_out, bits=4, constant_width=False)
        ClassTerms(codeword_weight=0.6, label_weight=2, class_weight=1.0)
    """

    codeword_weight: float | None = None
    label_weight: float | None = None
    class_weight: float | None = None

    def __post_init__(self) -> None:
        for name, weight in vars(self).items():
            if weight is not None and not 0 <= weight < math.inf:
                raise ValueError(f"{name} must be >= 0, got {weight}")

    def for_head(
        self, read_out: ClassReadOut | None, *, bits: int, constant_width: bool
    ) -> "ClassTerms":
        """Fill in what is None.

        Args:
            read_out: of the head; None for a head that knows no classes.
            bits: K, of the shortest code.
            constant_width: whether the loss has vectors of constant width, and labels are
                class ids.

        Raises:
            ValueError: a weight > 0 of a term that the head has not.
        """
        pull = label = teach = 0.0
        if read_out is not None:
            pull = max(0.0, 1 - bits / read_out.num_classes)
            pull = WIDE_CODEWORD_WEIGHT if constant_width else pull
            label = LABEL_WEIGHT
        if read_out is not None and read_out.classifier is not None:
            teach = CLASS_WEIGHT
        knows = "ProgressiveHead(..., num_classes=C)"
        return ClassTerms(
            codeword_weight=_given(
                "codeword_weight",
                self.codeword_weight,
                pull,
                None if read_out else f"that finds codewords: {knows}",
            ),
            label_weight=_given(
                "label_weight",
                self.label_weight,
                label,
                None if read_out else f"that knows classes: {knows}",
            ),
            class_weight=_given(
                "class_weight",
                self.class_weight,
                teach,
                None if teach else f"with a classifier: {knows}, readout > 0",
            ),
        )

    def of_outputs(
        self, read_out: ClassReadOut, outputs: Tensor, labels: Tensor, *, tanh: bool
    ) -> dict[str, Tensor]:
        """Compute the terms of a code.

        Args:
            read_out: of the head.
            outputs: (B, K), of the code.
            labels: class ids (B,) or multi-hot rows (B, C).
            tanh: whether outputs end in tanh.

        Returns:
            0-d terms, times their weights, by name: "codewords" and "labels". A term of
            weight 0 is left out, and so is "codewords" for a code without any.

        Raises:
            ValueError: labels that do not fit.
        """
        bits = outputs.shape[1]
        known = bits in read_out.lengths
        pull, read = code_terms(
            outputs,
            labels,
            num_classes=read_out.num_classes,
            tanh=tanh,
            ridge=LABEL_RIDGE,
            codewords=read_out.codewords(bits) if known else None,
            tie_bits=read_out.tie_bits(bits) if known else None,
            codeword_weight=self.codeword_weight or 0.0,
            label_weight=self.label_weight or 0.0,
        )
        terms = {"codewords": pull, "labels": read}
        return {name: term for name, term in terms.items() if term is not None}

    def of_scores(self, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Compute the term of the classifier, "classes", as `of_outputs` does.

        Args:
            scores: (B, C), before softmax.
            labels: class ids (B,) or multi-hot rows (B, C).
        """
        if not self.class_weight:
            return {}
        nll = class_nll(scores, labels)
        return {"classes": nll if self.class_weight == 1 else self.class_weight * nll}


def _given(name: str, weight: float | None, default: float, lacking: str | None) -> float:
    """Fill in a weight's default; refuse one that could do nothing."""
    if weight is None:
        return default
    if weight > 0 and lacking is not None:
        raise ValueError(f"{name}={weight} needs a head {lacking}")
    return weight
