"""Adapt a head to the items that will be searched."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..classes.read_out import ClassReadOut
from ..merging.chain import MergeChain
from ..runtime.process_group import rank_and_size, together
from .folding import fold_linear
from .longer_codes import LongerCodes
from .unfinished import warn_if_unfinished

Map = tuple[Tensor, Tensor]  # weight and bias


class Adapting(nn.Module):
    """A head of one linear map and merges that can be adapted."""

    linear: nn.Linear
    norm: nn.BatchNorm1d | None
    merges: MergeChain
    classes: ClassReadOut | None
    snapshots: LongerCodes
    all_bits: Sequence[int]

    @torch.no_grad()
    def adapt(
        self,
        x: Any,
        y: Any = None,
        *,
        bits: int | None = None,
        random_state: int = 0,
        progress: bool = False,
    ) -> None:
        """Learn a code anew from items that will be searched.

        Unlabelled items teach by their neighbours, labelled ones by their classes (see
        `adaptation.fit_codes`). The head's parameters change so that its code is the one
        that was learned; it still folds into one Linear, and nothing else is kept. Bits
        keep their places as far as that is possible. A class read-out adds nothing to this
        code any more.

        Use it when classes are searched for that training did not show. Call it after the
        training, or before any, on a head without merges left to make. Encode the database
        anew after it.

        In a process group every process has to call it. Process 0 learns from its items,
        and all take over what it learned.

        Args:
            x: (N, in_features) trunk outputs, array or tensor.
            y: None, class ids (N,) with -1 for unlabelled items, or multi-hot rows (N, C)
                with rows of -1.
            bits: a length reached so far, of a head with `longer="snapshot"`; None for the
                present one. Each length is adapted by a call of its own. With
                `longer="joint"`, longer codes share the neurons that change: they are not
                adapted, and change too.
            random_state: one seed always gives the same head.
            progress: show a bar.

        Raises:
            ValueError: x or y of another shape, or not finite; no code of that length, or
                one that shares its neurons with the present code; a batch norm weight of 0.
            RuntimeError: process 0 failed.

        Example:
            >>> from pml_nmlayer import ProgressiveHead
            >>> head, x = ProgressiveHead(16, bits=8), torch.randn(200, 16)
            >>> head.adapt(x)
            >>> head.fold()[0], head.codes(x).shape
            (Linear(in_features=16, out_features=8, bias=True), torch.Size([200, 8]))
        """
        now = self.merges.look_again()
        stage = self.snapshots.stage_of(bits, now)
        snapshot = self.snapshots.snapshot(stage, now)
        if snapshot is None and stage != now:
            raise ValueError(
                f"codes of {bits} bits share their neurons with those of "
                f"{self.all_bits[now]}, as longer='joint' wants it, so they cannot be "
                "adapted alone: call adapt without bits, or make the head with "
                "longer='snapshot'"
            )
        if bits is None:
            warn_if_unfinished(self, "adapted")
        if snapshot is not None:
            start = snapshot.weight, snapshot.bias
            weight, bias = _learned(x, y, start, random_state, progress)
            snapshot.weight.copy_(weight)
            snapshot.bias.copy_(bias)
            if snapshot.words is not None:
                snapshot.words.zero_()
            return
        if self.norm is not None and bool((self.norm.weight == 0).any()):
            raise ValueError(
                "the head's batch norm has weights of 0, which no change of its linear map "
                "can undo: adapt a head without batch norm"
            )
        merge = self.merges.merge_matrix(stage).double()
        start = fold_linear(self.linear, self.norm, merge)
        weight, bias = _learned(x, y, start, random_state, progress)
        # the smallest change of all neurons that changes merged ones as it should
        spread = torch.linalg.pinv(merge)
        if self.norm is not None:
            assert self.norm.running_var is not None
            scale = (self.norm.running_var.double() + self.norm.eps).sqrt()
            spread = spread * (scale / self.norm.weight.double())[:, None]
        self.linear.weight.add_(spread @ (weight.to(start[0]) - start[0]))
        self.linear.bias.add_(spread @ (bias.to(start[1]) - start[1]))
        length = self.all_bits[stage]
        if self.classes is not None and length in self.classes.lengths:
            self.classes.codewords(length).zero_()


def _learned(x: Any, y: Any, start: Map, random_state: int, progress: bool) -> Map:
    """The map that process 0 learns from its items, on every process."""
    from ..adaptation import fit_codes  # needs scipy, which a head does without

    def learn() -> Map | None:
        if rank_and_size()[0]:
            return None
        weight, bias = start
        fitted = fit_codes(
            x,
            y,
            bits=len(weight),
            random_state=random_state,
            start=(weight.float(), bias.float()),
            progress=progress,
            linear=True,
        )
        learned = fitted.module
        assert isinstance(learned, nn.Linear)
        return learned.weight.detach(), learned.bias.detach()

    learned = together(learn)[0]
    assert learned is not None
    return learned
