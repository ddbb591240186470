"""What a loss needs of a head."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from ..classes.read_out import ClassReadOut
from .outputs import HeadOutputs


@runtime_checkable
class HashHead(Protocol):
    """A head that `NMLoss` can wrap a loss for; `ProgressiveHead` is one."""

    constant_width: bool
    """Whether outputs keep the width of the longest code while training."""

    @property
    def all_bits(self) -> Sequence[int]:
        """Code lengths, from the longest on."""

    @property
    def classes(self) -> ClassReadOut | None:
        """What knows the classes of the training; None for nothing."""

    @property
    def activation(self) -> str | None:
        """How outputs end: "tanh", or None for linear ones."""

    @property
    def bits(self) -> int:
        """Code length now."""

    def codewords(self, bits: int | None = None) -> Tensor:
        """Codewords (C, bits) of the classes, of a length that is merged."""

    def observe(self, embeddings: Tensor, labels: Tensor | None = None) -> None:
        """See a batch of outputs, before the loss does."""

    def unpack(self, embeddings: Tensor | HeadOutputs) -> HeadOutputs:
        """Take outputs of this head apart, or refuse what it did not put out."""

    def code_outputs(self, embeddings: Tensor, bits: int) -> Tensor:
        """Turn outputs of a length into those of the code, (B, bits)."""
