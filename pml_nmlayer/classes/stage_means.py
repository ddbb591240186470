"""The mean code of each class, for every code that is merged."""

import warnings
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

    def check_seen(self, bits: int) -> None:
        """Warn where a merge would find codewords for classes of which most were not seen.

        Args:
            bits: of the code that is merged.
        """
        items = self.of(bits).items
        seen = int((items > 0).sum())
        if 2 * seen < len(items):
            warnings.warn(
                f"{seen} of {len(items)} classes were seen before this merge, so codewords "
                "of the others say nothing. Is num_classes right? PML's trainers take "
                "column 0 of multi-hot labels: build them with "
                "pml_nmlayer.multilabel.multilabel(Trainer)",
                UserWarning,
                stacklevel=6,
            )

    def of(self, bits: int) -> ClassMeans:
        """Return the means of a length."""
        means = self[f"bits_{bits}"]
        assert isinstance(means, ClassMeans)
        return means
