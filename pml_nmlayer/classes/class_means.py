"""Running mean code of each class."""

import torch
from torch import Tensor, nn

from ..codes.convention import raw_sign
from ..labels.checks import check_labels, class_rows
from ..runtime.process_group import add_up


class ClassMeans(nn.Module):
    r"""Running mean code of each class.

    Formula:  m_c = mean of b over the items of class c. After every batch all items seen so
              far are weighed down to `memory` items together, if they were more.

    Args:
        num_classes: C.
        bits: K.
        memory: number of items after which old ones start to be forgotten.

    Shapes:   buffers sums (C, K) and items (C,) keep their shapes for life.
    Raises:   ValueError: num_classes, bits or memory < 1.
    Source:   this package.  Differs: codes are averaged, not real outputs.
    """

    sums: Tensor
    items: Tensor

    def __init__(self, num_classes: int, bits: int, memory: int = 10_000) -> None:
        super().__init__()
        if min(num_classes, bits, memory) < 1:
            raise ValueError(
                "num_classes, bits and memory must be at least 1, got "
                f"num_classes={num_classes}, bits={bits}, memory={memory}"
            )
        self.num_classes = num_classes
        self.memory = memory
        self.register_buffer("sums", torch.zeros(num_classes, bits))
        self.register_buffer("items", torch.zeros(num_classes))

    @torch.no_grad()
    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Take in one batch, without synchronising with the device.

        A batch that holds NaN or inf is left out. In a torch process group every process
        has to make the call: the batch is then what all of them have together.

        Args:
            outputs: (B, K), codes or real outputs (their signs count); B may be 0.
            labels: class ids (B,) from 0 to C - 1, or multi-hot rows (B, C).

        Raises:
            ValueError: labels that do not fit.
        """
        check_labels(labels, outputs.shape[0])
        rows = class_rows(labels, self.num_classes).to(self.sums)
        unsound = (~outputs.sum(dtype=torch.float32).isfinite()).to(self.sums)
        with torch.autocast(rows.device.type, enabled=False):
            sums = rows.T @ raw_sign(outputs.to(self.sums))
        sums, items, unsound = add_up(sums, rows.sum(0), unsound)
        sound = (unsound == 0).to(sums)
        self.sums.add_(sums * sound)
        self.items.add_(items * sound)
        factor = self.memory / self.items.sum().clamp(min=self.memory)
        self.sums.mul_(factor)
        self.items.mul_(factor)

    @property
    def mean(self) -> Tensor:
        """Means (C, K); 0 for a class not seen."""
        return self.sums / self.items.clamp(min=1e-12)[:, None]

    def agreement(self, codewords: Tensor) -> Tensor:
        """E[b tᵀ] (K, K') of bits b and the codewords t (C, K') of their classes.

        An item of several classes counts for each; 0 before any item.
        """
        return self.sums.T @ codewords / self.items.sum().clamp(min=1e-12)

    def reset(self) -> None:
        """Forget everything."""
        self.sums.zero_()
        self.items.zero_()
