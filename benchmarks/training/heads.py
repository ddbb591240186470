"""The one place where heads with NMLayer, and the loss around them, are made."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from pml_nmlayer.classes.terms import ClassTerms
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import NMLoss


def make_head(
    in_features: int,
    bits: Sequence[int],
    *,
    constant_width: bool = False,
    **options: Any,
) -> ProgressiveHead:
    """Make a head; a single length means no merging at all.

    Args:
        in_features: width of what it is given.
        bits: lengths of the code, falling.
        constant_width: whether the loss always sees embeddings of width `bits[0]`.
        options: of `ProgressiveHead`.
    """
    return ProgressiveHead(in_features, bits, constant_width=constant_width, **options)


def make_nm_loss(loss: nn.Module, head: ProgressiveHead, **weights: float | None) -> NMLoss:
    """Wrap a loss, so that a head observes what it is trained with.

    Args:
        loss: the base loss.
        head: from `make_head`.
        weights: of `ClassTerms`; those left out are its defaults.
    """
    return NMLoss(loss, head, class_terms=ClassTerms(**weights))


def has_constant_width(head: ProgressiveHead) -> bool:
    """Tell whether a head was made with `constant_width`."""
    return head.constant_width
