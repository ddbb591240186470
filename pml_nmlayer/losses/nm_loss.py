"""Let a hash head see every batch that a loss sees."""

from typing import Any

import torch
from pytorch_metric_learning.losses import BaseMetricLossFunction, CrossBatchMemory
from torch import Tensor, nn

# docs/does-it-work.md
CLASS_WEIGHT = 1.0
LABEL_WEIGHT = 3.0
LIFTED_CODEWORD_WEIGHT = 10.0  # against class vectors of the loss, which pull elsewhere


class NMLoss(BaseMetricLossFunction):
    r"""Any PML loss, unchanged, while the head's redundancy graph learns.

    Formula:  head.observe(embeddings, labels), then
              L = loss(embeddings, labels, indices_tuple, ref_emb, ref_labels).
              Nothing is observed in eval mode of this module or under torch.no_grad(), so
              that a validation loss leaves no trace in the graph.
              For a head with longer="joint", L is the mean of that loss over all code
              lengths passed so far; each gets the tuples that were mined for the shortest.

    For a head with `num_classes`, three terms are added. δ · head.class_nll(...) teaches
    its classifier. μ · head.label_residual(...) makes that labels can be read from the bits
    by a linear map. γ · head.codeword_nll(...) pulls items to the codewords of their
    classes, from the first merge on: no linear map can tell more classes than bits apart,
    so it is the stronger the fewer bits there are for the classes. docs/does-it-work.md has
    all of them measured.

    On several processes, put this wrapper outside of PML's:
    NMLoss(DistributedLossWrapper(loss), head). The head gathers what it observes itself.

    Args:
        loss: a PML loss, one of this package, or any module called as
            loss(embeddings, labels, ...), such as PML's CrossBatchMemory.
        head: an object with `observe(embeddings, labels)`, such as `ProgressiveHead`. It is
            not registered as a submodule: its parameters and state belong to the model.
        codeword_weight: γ >= 0, no unit; None for max(0, 1 - K / C) with K the bits of the
            shortest code and C the classes, or, with class ids, 10 for a head with
            lift=True, whose loss has vectors of its own for the classes, that pull
            elsewhere.
        class_weight: δ >= 0, no unit; None for 1, or 0 for a head without a classifier.
            With 0 the classifier learns through the codes alone. Without gradient or in
            eval mode of this module, δ is 0.
        label_weight: μ >= 0, no unit; None for 3, or 0 for a head without `num_classes`.

    Shapes:   those of the loss.
    Returns:  the value of the loss.
    Raises:   TypeError: the loss is not callable or the head has no `observe`.
              ValueError: a weight < 0, or > 0 for a head without codewords or classifier;
              embeddings that the head did not put out (see `class_nll`); a memory
              of embeddings, which would mix lengths, with a head with longer="joint"; or
              embeddings of such a head from several forward passes.
    Source:   this package.  Differs: reducer, regularizer and statistics are those of the
              wrapped loss; NMLoss takes none of its own.

    Example:
        >>> import torch
        >>> from pytorch_metric_learning.losses import SupConLoss
        >>> from pml_nmlayer.layers import ProgressiveHead
        >>> head = ProgressiveHead(16, bits=(8, 4))
        >>> loss = NMLoss(SupConLoss(), head)
        >>> labels = torch.arange(6) % 3
        >>> loss(head(torch.randn(6, 16)), labels).requires_grad
        True
        >>> head.layers[0].graph.items.item()
        6.0
    """

    def __init__(
        self,
        loss: nn.Module,
        head: Any,
        codeword_weight: float | None = None,
        class_weight: float | None = None,
        label_weight: float | None = None,
    ) -> None:
        super().__init__()
        knows_classes = getattr(head, "num_classes", None) is not None
        classifies = getattr(head, "classifier", None) is not None
        of_ids, of_rows = _pulls(head) if knows_classes else (0.0, 0.0)
        self._codeword_weights = [
            _weight(
                "codeword_weight",
                codeword_weight,
                default,
                knows_classes,
                "that finds codewords: ProgressiveHead(..., num_classes=C)",
            )
            for default in (of_ids, of_rows)
        ]
        label_weight = _weight(
            "label_weight",
            label_weight,
            LABEL_WEIGHT,
            knows_classes,
            "that knows classes: ProgressiveHead(..., num_classes=C)",
        )
        class_weight = _weight(
            "class_weight",
            class_weight,
            CLASS_WEIGHT,
            classifies,
            "with a classifier: ProgressiveHead(..., num_classes=C), readout > 0",
        )
        if not callable(loss):
            raise TypeError(f"loss must be callable, got {loss!r}")
        if not callable(getattr(head, "observe", None)):
            raise TypeError(
                "head must have observe(embeddings, labels), such as ProgressiveHead; got "
                f"{type(head).__name__} (pass the head itself, not a wrapper around it)"
            )
        if getattr(head, "longer", None) == "joint" and isinstance(loss, CrossBatchMemory):
            raise ValueError(
                f"{type(loss).__name__} would fill its memory with codes of all lengths; "
                "use a head with longer='snapshot' or another loss"
            )
        self.loss = loss
        self.class_weight = class_weight
        self.label_weight = label_weight
        # Only the methods are kept. The head as an attribute would become a submodule, and
        # even hidden in a tuple PML's record keeper would walk through it and log it.
        self._observe = head.observe
        self._take_longer_outputs = getattr(head, "take_longer_outputs", list)
        self._forget_passes = getattr(head, "forget_passes", list)

    @property
    def head(self) -> Any:
        """The head that observes."""
        return self._observe.__self__

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Observe, then return the loss."""
        longer: list[Tensor] = []
        class_nll = None
        if self.training and torch.is_grad_enabled():
            self._observe(embeddings.detach(), labels)
            longer = self._longer_outputs(embeddings, ref_emb)
            if self.class_weight > 0:
                class_nll = self.head.class_nll(embeddings, labels)
            else:
                self._forget_passes()
        given = labels, indices_tuple, ref_emb, ref_labels
        loss = self._loss_of(embeddings, None, *given)
        if longer:
            lengths = getattr(self.head, "all_bits", [None] * len(longer))
            pairs = zip(longer, lengths, strict=False)
            others = [self._loss_of(each, bits, *given) for each, bits in pairs]
            loss = torch.stack([loss, *others]).mean()
        return loss if class_nll is None else loss + self.class_weight * class_nll

    def codeword_weight(self, labels: Tensor | None) -> float:
        """Tell γ, which may depend on the kind of labels unless it was given.

        Args:
            labels: class ids or multi-hot rows.
        """
        return self._codeword_weights[labels is not None and labels.ndim == 2]

    def _longer_outputs(self, embeddings: Tensor, ref_emb: Tensor | None) -> list[Tensor]:
        longer: list[Tensor] = self._take_longer_outputs()
        if longer and (ref_emb is not None or len(longer[0]) != len(embeddings)):
            raise ValueError(
                "a head with longer='joint' needs losses on the output of its last forward "
                f"pass alone: that had {len(longer[0])} items, the loss got "
                f"{len(embeddings)} and "
                f"{'no' if ref_emb is None else len(ref_emb)} reference items"
            )
        return longer

    def _loss_of(
        self,
        embeddings: Tensor,
        bits: int | None,
        labels: Tensor | None,
        indices_tuple: tuple[Tensor, ...] | None,
        ref_emb: Tensor | None,
        ref_labels: Tensor | None,
    ) -> Tensor:
        # Wrappers such as MultipleLosses take no reference set.
        refs = () if ref_emb is None else (ref_emb, ref_labels)
        loss: Tensor = self.loss(embeddings, labels, indices_tuple, *refs)
        pull = self.codeword_weight(labels)
        if pull > 0:
            distance = self.head.codeword_nll(embeddings, labels, bits)
            loss = loss if distance is None else loss + pull * distance
        if self.label_weight > 0:
            residual = self.head.label_residual(embeddings, labels, bits)
            loss = loss + self.label_weight * residual
        return loss

    def sub_loss_names(self) -> list[str]:
        """Names of the wrapped loss."""
        # PML asks for them while it builds its part of this object, before there is a loss.
        names = getattr(getattr(self, "loss", None), "sub_loss_names", None)
        return ["loss"] if names is None else names()


def default_codeword_weight(num_classes: int, bits: int) -> float:
    """Tell γ of a head without lift.

    Args:
        num_classes: C.
        bits: of the shortest code.
    """
    return max(0.0, 1 - bits / num_classes)


def _pulls(head: Any) -> tuple[float, float]:
    """Tell γ for class ids and for multi-hot rows."""
    weight = default_codeword_weight(head.num_classes, head.all_bits[-1])
    return LIFTED_CODEWORD_WEIGHT if head.lift else weight, weight


def _weight(
    name: str, weight: float | None, default: float, usable: bool, what: str
) -> float:
    """Fill in a weight's default; refuse one that could do nothing."""
    if weight is None:
        return default if usable else 0.0
    if weight < 0:
        raise ValueError(f"{name} must be >= 0, got {weight}")
    if weight > 0 and not usable:
        raise ValueError(f"{name}={weight} needs a head {what}")
    return weight
