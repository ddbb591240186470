"""Running mean code of each class."""

import torch
from torch import Tensor, nn

from ..labels.checks import check_labels, class_rows
from ..runtime.process_group import all_reduce_sum, rank_and_size


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

    def __init__(self, num_classes: int, bits: int, *, memory: int = 10_000) -> None:
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
        # NaN and inf survive a sum, and then leave nothing of themselves to be 0
        total = outputs.sum(dtype=self.sums.dtype)
        sound = (total - total).eq_(0)
        # autocast leaves calls in place, or with out=, alone
        ones = torch.ge(outputs, 0, out=self.sums.new_empty(outputs.shape))
        if rank_and_size()[1] == 1:
            rows = rows * sound
            items = rows.sum(0)
            self.sums.addmm_(rows.T, ones, alpha=2).sub_(items[:, None])
            self.items.add_(items)
        else:
            sums, items = torch.zeros_like(self.sums).addmm_(rows.T, ones), rows.sum(0)
            sums, items, sound = all_reduce_sum(sums, items, sound - 1)
            everywhere = sound.eq(0).to(sums)
            self.sums.add_((2 * sums - items[:, None]) * everywhere)
            self.items.add_(items * everywhere)
        surplus = self.items.sum().div_(self.memory).clamp_(min=1)
        torch._foreach_div_([self.sums, self.items], surplus)

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
