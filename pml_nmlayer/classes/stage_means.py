"""The mean code of each class, for every code that is merged."""

from collections.abc import Sequence

from torch import nn

from .class_means import ClassMeans


class StageMeans(nn.ModuleDict):
    """The mean code of each class, for every length of a chain that is merged.

    Args:
        num_classes: C.
        bits: the lengths.
        memory: see `ClassMeans`.
    """

    def __init__(self, num_classes: int, bits: Sequence[int], memory: int) -> None:
        super().__init__(
            {f"bits_{each}": ClassMeans(num_classes, each, memory=memory) for each in bits}
        )

    def of(self, bits: int) -> ClassMeans:
        """Return the means of a length."""
        means = self[f"bits_{bits}"]
        assert isinstance(means, ClassMeans)
        return means
