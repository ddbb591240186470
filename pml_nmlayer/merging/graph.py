"""Running statistics of which bits are redundant."""

from typing import Any

import torch
from torch import Tensor, nn

from ..runtime.process_group import all_reduce_sum, rank_and_size


class RedundancyGraph(nn.Module):
    r"""Running statistics of K bits: how they correlate and what each is worth.

    Formula:  m = E[b], S = E[b bᵀ] over the codes seen; correlation
              ρ_ij = (S_ij - m_i m_j) / sqrt((1 - m_i²)(1 - m_j²)), ρ_ii = 0;
              v = E[importance], A = E[redundancy] of what a scorer measured.
              E is the mean over all items. After each batch those seen so far are weighed
              down to `memory` items together, if they are more. What was measured on B
              items then counts B / (memory + B).

    Args:
        bits: K.
        memory: number of items after which old ones start to be forgotten.

    Shapes:   all buffers keep their shapes for life: pairs, redundancy (K, K), importance
              (K,), and scalar counts.
    Raises:   ValueError: bits or memory < 1.
    Source:   Fu et al., IJCAI 2019, arXiv:1809.02302 (a graph learned from mini-batches).
              Differs: the statistics are moments, so the graph of many small batches is the
              graph of their union.
    """

    pairs: Tensor
    importance: Tensor
    redundancy: Tensor
    items: Tensor
    scored_items: Tensor
    skipped_batches: Tensor
    batches: Tensor

    def __init__(self, bits: int, *, memory: int = 10_000) -> None:
        super().__init__()
        if bits < 1 or memory < 1:
            raise ValueError(
                f"bits and memory must be at least 1, got bits={bits}, memory={memory}"
            )
        self.bits = bits
        self.memory = memory
        self.register_buffer("pairs", torch.zeros(bits, bits))  # items with both bits +1
        self.register_buffer("items", torch.zeros(()))
        self.register_buffer("importance", torch.zeros(bits))
        self.register_buffer("redundancy", torch.zeros(bits, bits))
        self.register_buffer("scored_items", torch.zeros(()))
        self.register_buffer("skipped_batches", torch.zeros((), dtype=torch.int64))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.seen_batches = 0  # what `batches` is when it is saved; no step reads a device

    @torch.no_grad()
    def update(
        self,
        outputs: Tensor,
        importance: Tensor | None = None,
        redundancy: Tensor | None = None,
        scored: Tensor | None = None,
    ) -> None:
        """Take in one batch, without synchronising with the device.

        A batch that holds NaN or inf is left out and counted as skipped. In a torch process
        group every process has to make the call: the batch is then what all of them have
        together. What a scorer measured is taken as it is, so it must be the same on all.

        Args:
            outputs: (B, K), codes or real outputs (their signs count); B may be 0.
            importance: (K,) measured on this batch, or None.
            redundancy: (K, K) measured on this batch, or None.
            scored: number of items that `importance` and `redundancy` rest on, 0-d;
                None for all.
        """
        self.pass_over()
        unsound = self._count(outputs)
        if importance is None and redundancy is None:
            return
        if scored is None:
            (scored,) = all_reduce_sum(torch.full_like(self.scored_items, len(outputs)))
        self._remember(importance, redundancy, scored.to(self.pairs) * ~unsound)

    def pass_over(self) -> None:
        """Let one batch go by: it is numbered, and not looked at."""
        # Not by attribute: a module's own way to set one costs more than all else here
        vars(self)["seen_batches"] += 1

    def _count(self, outputs: Tensor) -> Tensor:
        """Count the pairs of bits; return whether the batch was left out instead."""
        # NaN and inf survive a sum, and then leave nothing of themselves to be 0
        total = outputs.sum(dtype=self.pairs.dtype)
        sound = (total - total).eq_(0)
        items = sound * outputs.shape[0]
        # autocast leaves calls in place, or with out=, alone
        ones = torch.ge(outputs, 0, out=self.pairs.new_empty(outputs.shape))
        if rank_and_size()[1] == 1:
            self.pairs.addmm_(ones.mul_(sound).T, ones)
        else:
            pairs = torch.mm(ones.T, ones, out=torch.empty_like(self.pairs))
            pairs, items, lacking = all_reduce_sum(pairs, items, 1 - sound)
            sound = lacking.eq(0).to(sound)
            items = items * sound
            self.pairs.add_(pairs.mul_(sound))
        unsound = sound == 0
        self.skipped_batches.add_(unsound)
        total = self.items.add_(items)
        fade = total.clamp(min=self.memory).reciprocal_().mul_(self.memory)
        self.pairs.mul_(fade)
        total.mul_(fade)
        return unsound

    def _remember(
        self, importance: Tensor | None, redundancy: Tensor | None, scored: Tensor
    ) -> None:
        total = self.scored_items.add_(scored)
        rate = scored / total.clamp(min=1)
        total.clamp_(max=self.memory)
        if importance is not None:
            self.importance.lerp_(torch.nan_to_num(importance.to(self.pairs)), rate)
        if redundancy is not None:
            self.redundancy.lerp_(torch.nan_to_num(redundancy.to(self.pairs)), rate)

    @property
    def mean(self) -> Tensor:
        """Mean m (K,); 0 before any item."""
        items = self.items
        return (2 * self.pairs.diagonal() - items) / items.clamp(min=1)

    @property
    def moment(self) -> Tensor:
        """Second moment S (K, K); 0 before any item."""
        items, ones = self.items, self.pairs.diagonal()
        total = 4 * self.pairs - 2 * (ones[:, None] + ones[None, :]) + items
        return total / items.clamp(min=1)

    def correlation(self) -> Tensor:
        """Signed correlation (K, K) with zero diagonal; 0 for a bit that never flips."""
        mean = self.mean
        variance = 1 - mean.square()
        scale = torch.where(variance > 1e-6, variance.clamp(min=1e-6).rsqrt(), 0.0)
        covariance = self.moment - torch.outer(mean, mean)
        rho = covariance * torch.outer(scale, scale)
        return rho.clamp(-1, 1).fill_diagonal_(0)

    def reset(self) -> None:
        """Forget everything."""
        self.seen_batches = 0
        for buffer in self.buffers():
            buffer.zero_()

    def _save_to_state_dict(self, *args: Any) -> None:
        self.batches.fill_(self.seen_batches)
        super()._save_to_state_dict(*args)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.seen_batches = int(self.batches)

    def extra_repr(self) -> str:
        """Show the size in print(model)."""
        return f"bits={self.bits}, memory={self.memory}"
