"""Let a hash head see every batch that a loss sees."""

import warnings
from typing import Any

import torch
from pytorch_metric_learning.losses import (
    BaseMetricLossFunction,
    CrossBatchMemory,
    SelfSupervisedLoss,
)
from torch import Tensor, nn

from ..classes.terms import ClassTerms
from ..heads.outputs import HeadOutputs
from ..heads.protocol import HashHead
from ..labels.checks import check_labels
from ..labels.columns import check_not_a_column
from .base_centre_loss import BaseCentreLoss
from .wrapped_width import needs_constant_width

_TERMS = ("loss", "codewords", "labels", "classes")


class NMLoss(BaseMetricLossFunction):
    r"""Any PML loss, unchanged, while the head's redundancy graph learns.

    Formula:  head.observe(embeddings, labels), then the sum of `terms`:
              L = loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)
              and, for a head with classes, what `ClassTerms` adds.
              For a head with longer="joint", L and the terms of codes are means over all
              code lengths passed so far; each gets the tuples mined for the shortest.

    Nothing is observed in eval mode of this module or under torch.no_grad(), so that a
    validation loss leaves no trace in the graph. In eval mode the classifier's term is left
    out where embeddings carry no class scores, as those of a head in eval mode.

    A loss with vectors or a memory of embedding width (ProxyAnchor, ArcFace, SoftTriple,
    CrossBatchMemory, ...) switches the head's constant width on. A loss with binary centres
    (CSQ, OrthoHash, DPN) takes the codewords of a head with classes as centres instead.

    On several processes, put this wrapper outside of PML's:
    NMLoss(DistributedLossWrapper(loss), head). The head gathers what it observes itself.

    Args:
        loss: a PML loss, one of this package, or any module called as
            loss(embeddings, labels, ...), such as PML's CrossBatchMemory.
        head: a `HashHead`, such as `ProgressiveHead`. It is not registered as a submodule:
            its parameters and state belong to the model.
        class_terms: weights of the terms for classes; None for `ClassTerms()`.
        constant_width: whether the loss needs outputs of constant width; None to find out
            by its parameters and memories.
        codeword_weight: old name of that of `ClassTerms`.
        class_weight: old name of that of `ClassTerms`.
        label_weight: old name of that of `ClassTerms`.
        collect_stats: as in PML: keep the last value of each term, for a record keeper, as
            `loss_term` and so on. None for PML's global setting.

    Shapes:   embeddings (B, K), or `HeadOutputs`; else those of the loss.
    Returns:  a scalar.
    Raises:   TypeError: the loss is not callable, or the head is no `HashHead`.
              ValueError: a loss made for another width than bits[0], or one of two views.
              Class weights that the head has no use for. A memory of embeddings, which
              would mix lengths, with a head with longer="joint". Embeddings that the head
              did not put out, or that carry no class scores any more.
    Source:   this package.  Differs: distance, reducer and regularizer are those of the
              wrapped loss; NMLoss takes none of its own.

    Example:
        >>> import torch
        >>> from pytorch_metric_learning.losses import SupConLoss
        >>> from pml_nmlayer import ProgressiveHead
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
        head: HashHead,
        *,
        class_terms: ClassTerms | None = None,
        constant_width: bool | None = None,
        codeword_weight: float | None = None,
        class_weight: float | None = None,
        label_weight: float | None = None,
        collect_stats: bool | None = None,
    ) -> None:
        super().__init__(collect_stats=collect_stats)
        for part in ("distance", "reducer"):  # of PML's base; those of the loss count
            del self._modules[part]
        if not callable(loss):
            raise TypeError(f"loss must be callable, got {loss!r}")
        if not isinstance(head, HashHead):
            raise TypeError(
                "head must be a hash head with observe(embeddings, labels), such as "
                f"ProgressiveHead; got {type(head).__name__} (pass the head itself, not a "
                "wrapper around it)"
            )
        old = {
            "codeword_weight": codeword_weight,
            "class_weight": class_weight,
            "label_weight": label_weight,
        }
        if any(weight is not None for weight in old.values()):
            class_terms = _renamed(old, class_terms)
        self.loss = loss
        self._warned_of_a_column = False
        # Only a method is kept. The head as an attribute would become a submodule, and
        # even hidden in a tuple PML's record keeper would walk through it and log it.
        self._observe = head.observe
        _fit(loss, head, constant_width)
        given = ClassTerms() if class_terms is None else class_terms
        self._terms_of_ids, self._terms_of_rows = (
            given.for_head(head.classes, bits=head.all_bits[-1], constant_width=wide)
            for wide in (head.constant_width, False)
        )
        self.add_to_recordable_attributes(name="bits")
        names = _TERMS if head.classes is not None else _TERMS[:1]
        stats = [f"{name}_term" for name in names]
        self.add_to_recordable_attributes(list_of_names=stats, is_stat=True)

    @property
    def head(self) -> HashHead:
        """The head that observes."""
        head: HashHead = self._observe.__self__  # type: ignore[attr-defined]
        return head

    @property
    def bits(self) -> int:
        """Code length of the head now, for a record keeper."""
        return self.head.bits

    @property
    def distance(self) -> Any:
        """Distance of the wrapped loss."""
        return self.loss.distance

    @property
    def reducer(self) -> Any:
        """Reducer of the wrapped loss."""
        return self.loss.reducer

    def class_terms(self, labels: Tensor | None) -> ClassTerms:
        """Tell the weights of the terms for classes.

        Args:
            labels: class ids or multi-hot rows; their kind may matter.
        """
        rows = labels is not None and labels.ndim == 2
        return self._terms_of_rows if rows else self._terms_of_ids

    def forward(
        self,
        embeddings: Tensor | HeadOutputs,
        labels: Tensor | None = None,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | HeadOutputs | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Observe, then return the sum of the terms."""
        terms = self.terms(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        if self.collect_stats:
            self.reset_stats()
            for name, term in terms.items():
                setattr(self, f"{name}_term", term.detach())
        first, *others = terms.values()
        for term in others:
            first = first + term
        return first

    def terms(
        self,
        embeddings: Tensor | HeadOutputs,
        labels: Tensor | None = None,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | HeadOutputs | None = None,
        ref_labels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute what `forward` adds up, by name.

        Args:
            embeddings: as all others, see `forward`.
            labels: class ids (B,) or multi-hot rows (B, C).
            indices_tuple: pairs or triplets of a miner.
            ref_emb: reference set; None for the embeddings themselves.
            ref_labels: its labels.

        Returns:
            0-d terms, times their weights: "loss", and "codewords", "labels" and "classes"
            where the head has classes and the weight is not 0.

        Raises:
            ValueError: see the class.
        """
        head = self.head
        if not self._warned_of_a_column:
            classes = None if head.classes is None else head.classes.num_classes
            self._warned_of_a_column = check_not_a_column(labels, classes)
        outputs = head.unpack(embeddings)
        _check_checkpointing(outputs)
        reference = None if ref_emb is None else head.unpack(ref_emb)
        if self.training and torch.is_grad_enabled():
            head.observe(outputs.embeddings.detach(), labels)
        lengths = *head.all_bits[: len(outputs.longer)], head.bits
        parts: dict[str, list[Tensor]] = {}
        for bits, of_length, ref in _by_length(lengths, outputs, reference):
            # Wrappers such as MultipleLosses take no reference set.
            refs = () if ref is None else (ref, ref_labels)
            found = {"loss": self.loss(of_length, labels, indices_tuple, *refs)}
            found |= self._of_code(head, of_length, labels, bits)
            for name, term in found.items():
                parts.setdefault(name, []).append(term)
        terms = {
            name: each[0] if len(lengths) == 1 else torch.stack(each).sum() / len(lengths)
            for name, each in parts.items()
        }
        return terms | self._of_classifier(outputs, labels)

    def _of_code(
        self, head: HashHead, outputs: Tensor, labels: Tensor | None, bits: int
    ) -> dict[str, Tensor]:
        terms = self.class_terms(labels)
        if head.classes is None or not (terms.codeword_weight or terms.label_weight):
            return {}
        tanh, outputs = head.activation == "tanh", head.code_outputs(outputs, bits)
        known = _needed(labels, len(outputs), head.classes.num_classes)
        return terms.of_outputs(head.classes, outputs, known, tanh=tanh)

    def _of_classifier(
        self, outputs: HeadOutputs, labels: Tensor | None
    ) -> dict[str, Tensor]:
        terms, scores = self.class_terms(labels), outputs.class_scores
        if not terms.class_weight or (scores is None and not self.training):
            return {}
        if scores is None:
            raise ValueError(
                "these embeddings carry no class scores, which teach the head's "
                "classifier. Outputs of a head in training mode carry them, also through "
                "cat, indexing and split. Scaled, normalised or mixed with others they do "
                "not: pass the head's own outputs (PML's distances normalise themselves), "
                "or head.outputs(x), or use class_terms=ClassTerms(class_weight=0)"
            )
        return terms.of_scores(scores, _needed(labels, *scores.shape))

    def sub_loss_names(self) -> list[str]:
        """Names of the wrapped loss."""
        # PML asks for them while it builds its part of this object, before there is a loss.
        names = getattr(getattr(self, "loss", None), "sub_loss_names", None)
        return ["loss"] if names is None else names()


def _fit(loss: nn.Module, head: HashHead, constant_width: bool | None) -> None:
    """Make head and loss fit to each other, or refuse what cannot work."""
    if isinstance(loss, SelfSupervisedLoss):
        raise ValueError(
            f"{type(loss).__name__} takes two views and no labels, so it belongs outside: "
            "HashSelfSupervisedLoss(NMLoss(loss, head))"
        )
    joint = getattr(head, "longer", None) == "joint"
    if joint and any(isinstance(m, CrossBatchMemory) for m in _modules(loss)):
        raise ValueError(
            f"{type(loss).__name__} would fill its memory with codes of all lengths; "
            "use a head with longer='snapshot' or another loss"
        )
    wide = head.constant_width if constant_width is None else constant_width
    if head.classes is not None and not wide:
        for module in _modules(loss):
            if isinstance(module, BaseCentreLoss) and not module.takes_shorter:
                module.follow(head)
    if constant_width is None and isinstance(loss, nn.Module):
        wide = needs_constant_width(loss, head.all_bits[0]) or wide
    head.constant_width = wide


def _modules(loss: nn.Module) -> list[nn.Module]:
    return list(loss.modules()) if isinstance(loss, nn.Module) else []


def _by_length(
    lengths: tuple[int, ...], outputs: HeadOutputs, reference: HeadOutputs | None
) -> list[tuple[int, Tensor, Tensor | None]]:
    """Put outputs and reference set of each length together."""
    own = [*outputs.longer, outputs.embeddings]
    refs: list[Tensor | None] = [None] * len(own)
    if reference is not None:
        if len(reference.longer) != len(outputs.longer):
            raise ValueError(
                "a head with longer='joint' needs outputs of all lengths on both sides: "
                f"embeddings carry {len(outputs.longer)} longer codes, ref_emb "
                f"{len(reference.longer)}"
            )
        refs = [*reference.longer, reference.embeddings]
    return list(zip(lengths, own, refs, strict=True))


def _needed(labels: Tensor | None, count: int, num_classes: int) -> Tensor:
    if labels is None:
        raise ValueError(f"a head of {num_classes} classes needs labels, got None")
    check_labels(labels, count)
    return labels


def _check_checkpointing(outputs: HeadOutputs) -> None:
    """Refuse rows that carry something out of reentrant checkpointing.

    Autograd compares shapes there, and finds the wide rows. The view that `unpack` takes,
    or a cast, may stand in between.
    """
    if torch.compiler.is_compiling():  # where no node of autograd can be seen
        return
    carries = outputs.class_scores is not None or len(outputs.longer) > 0
    node = outputs.embeddings.grad_fn if carries else None
    for _ in range(3):
        if node is None:
            return
        if node.name() == "CheckpointFunctionBackward":
            raise ValueError(
                "reentrant checkpointing cannot hand on what rows carry: call "
                "torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
            )
        node = node.next_functions[0][0] if node.next_functions else None


def _renamed(old: dict[str, float | None], given: ClassTerms | None) -> ClassTerms:
    names = ", ".join(name for name, weight in old.items() if weight is not None)
    if given is not None:
        raise ValueError(f"give {names} in class_terms=ClassTerms(...), not twice")
    warnings.warn(
        f"{names} of NMLoss leave in 1.0; use class_terms=ClassTerms(...)",
        DeprecationWarning,
        stacklevel=3,
    )
    return ClassTerms(**old)
