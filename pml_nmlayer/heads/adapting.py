"""Adapt a head to the items that will be searched."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..classes.read_out import ClassReadOut
from ..merging.chain import MergeChain
from .folding import fold_linear


class Adapting(nn.Module):
    """A head of one linear map and merges that can be adapted."""

    linear: nn.Linear
    norm: nn.BatchNorm1d | None
    merges: MergeChain
    classes: ClassReadOut | None
    all_bits: Sequence[int]

    @torch.no_grad()
    def adapt(
        self, x: Any, y: Any = None, *, random_state: int = 0, progress: bool = False
    ) -> None:
        """Learn the present code anew from items that will be searched.

        Unlabelled items teach by their neighbours, labelled ones by their classes (see
        `adaptation.fit_codes`). The head's parameters change so that its code is the one
        that was learned; it still folds into one Linear, and nothing else is kept. Bits
        keep their places as far as that is possible. A class read-out adds nothing to this
        code any more.

        Use it when classes are searched for that training did not show. Call it after the
        training, or before any, on a head without merges left to make. Processes that call
        it with the same items get the same head.

        Args:
            x: (N, in_features) trunk outputs, array or tensor.
            y: None, class ids (N,) with -1 for unlabelled items, or multi-hot rows (N, C)
                with rows of -1.
            random_state: one seed always gives the same head.
            progress: show a bar.

        Raises:
            ValueError: x or y of another shape, or not finite.

        Example:
            >>> from pml_nmlayer import ProgressiveHead
            >>> head, x = ProgressiveHead(16, bits=8), torch.randn(200, 16)
            >>> head.adapt(x)
            >>> head.fold()[0], head.codes(x).shape
            (Linear(in_features=16, out_features=8, bias=True), torch.Size([200, 8]))
        """
        from ..adaptation import fit_codes  # needs scipy, which a head does without

        stage = self.merges.look_again()
        bits = self.all_bits[stage]
        merge = self.merges.merge_matrix(stage).double()
        weight, bias = fold_linear(self.linear, self.norm, merge)
        fitted = fit_codes(
            x,
            y,
            bits=bits,
            random_state=random_state,
            start=(weight.float(), bias.float()),
            progress=progress,
            linear=True,
        )
        learned = fitted.module
        assert isinstance(learned, nn.Linear)
        # the smallest change of all neurons that changes merged ones as it should
        spread = torch.linalg.pinv(merge)
        if self.norm is not None:
            assert self.norm.running_var is not None
            scale = (self.norm.running_var.double() + self.norm.eps).sqrt()
            spread = spread * (scale / self.norm.weight.double())[:, None]
        self.linear.weight.add_(spread @ (learned.weight.to(weight) - weight))
        self.linear.bias.add_(spread @ (learned.bias.to(bias) - bias))
        if self.classes is not None and bits in self.classes.lengths:
            self.classes.codewords(bits).zero_()
