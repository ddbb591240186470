"""The graph of redundancy between bits, and how a graph becomes groups of bits."""

from typing import Any

import torch
from torch import Tensor, nn

from .process_group import add_up, rank_and_size

WINDOW = 8  # batches that are kept before they are counted together


class _Shelf:
    """Outputs that wait to be counted, in memory that is made once.

    A step only copies. Small tensors that outlive it would cost more than they hold:
    allocators cannot reuse the large blocks around them.

    Args:
        like: the first batch (B, K).
    """

    def __init__(self, like: Tensor) -> None:
        rows = WINDOW * max(len(like), 1)
        self.outputs = like.new_empty(rows, like.shape[1], dtype=torch.float32)
        self.sizes: list[int] = []
        self.end = 0

    def has_room(self, outputs: Tensor) -> bool:
        # .shape, as len() of a tensor takes longer than all the rest
        room = self.outputs.shape[0] - self.end
        return outputs.device == self.outputs.device and outputs.shape[0] <= room

    def put(self, outputs: Tensor) -> None:
        size = outputs.shape[0]
        self.outputs.narrow(0, self.end, size).copy_(outputs)
        self.end += size
        self.sizes.append(size)

    def take(self) -> tuple[Tensor, list[int], Tensor]:
        """Empty it: codes (rows, K) of 0 and 1 (0 if unsound), sizes, who is sound."""
        rows, sizes = self.outputs[: self.end], self.sizes
        self.sizes, self.end = [], 0
        if len(set(sizes)) == 1:  # one operation instead of one a batch
            batches = rows.view(len(sizes), -1)
            sounds = batches.sum(1).isfinite().float()  # NaN and inf survive a sum
            batches.ge_(0).mul_(sounds[:, None])
        else:
            parts = rows.split(sizes)
            sounds = torch.stack([part.sum() for part in parts]).isfinite().float()
            rows.ge_(0)
            for part, sound in zip(parts, sounds, strict=True):
                part.mul_(sound)
        return rows, sizes, sounds


class RedundancyGraph(nn.Module):
    r"""Running statistics of K bits: how they correlate and what each is worth.

    Formula:  m = E[b], S = E[b bᵀ] over the codes seen; correlation
              ρ_ij = (S_ij - m_i m_j) / sqrt((1 - m_i²)(1 - m_j²)), ρ_ii = 0;
              v = E[importance], A = E[redundancy] of what a scorer measured.
              E is the mean over all items. After every eighth batch those seen so far are
              weighed down to `memory` items together, if they were more. What was measured
              on B items then counts B / (memory + B).

    Batches are kept, and eight of them are counted together, which takes less time than
    eight small sums. Whoever asks sees them all. Counts are whole numbers until `memory`
    items were seen, so that it makes no difference when somebody asks (or saves); later it
    may make one of rounding.

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
    counted_items: Tensor
    scored_items: Tensor
    skipped: Tensor
    batches: Tensor

    def __init__(self, bits: int, memory: int = 10_000) -> None:
        super().__init__()
        if bits < 1 or memory < 1:
            raise ValueError(
                f"bits and memory must be at least 1, got bits={bits}, memory={memory}"
            )
        self.bits = bits
        self.memory = memory
        self.register_buffer("pairs", torch.zeros(bits, bits))  # items with both bits +1
        self.register_buffer("importance", torch.zeros(bits))
        self.register_buffer("redundancy", torch.zeros(bits, bits))
        self.register_buffer("counted_items", torch.zeros(()))
        self.register_buffer("scored_items", torch.zeros(()))
        self.register_buffer("skipped", torch.zeros((), dtype=torch.int64))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.seen_batches = 0  # what `batches` is when it is saved; no step reads a device
        self._shelf: _Shelf | None = None

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
        self._keep(outputs)
        self.seen_batches += 1
        measured = importance is not None or redundancy is not None
        full = self.seen_batches % WINDOW == 0
        if not (measured or full or rank_and_size()[1] > 1):
            return
        if full or rank_and_size()[1] > 1:
            sound = self._count_kept()
        else:
            sound = outputs.sum(dtype=torch.float32).isfinite()
        if full:
            self._fade()
        if not measured:
            return
        if scored is None:
            (scored,) = add_up(torch.full_like(self.scored_items, len(outputs)))
        self._remember(importance, redundancy, scored.to(self.pairs) * sound)

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

    def _keep(self, outputs: Tensor) -> None:
        if self._shelf is None or not self._shelf.has_room(outputs):
            self._settle()
            self._shelf = _Shelf(outputs)
        self._shelf.put(outputs)

    @torch.no_grad()
    def _count_kept(self) -> Tensor:
        """Count what is kept; return whether the last batch of it is sound."""
        assert self._shelf is not None
        ones, sizes, sounds = self._shelf.take()
        ones, sounds = ones.to(self.pairs), sounds.to(self.pairs)
        if len(set(sizes)) == 1:
            items = sounds.sum() * sizes[0]
        else:
            items = sum((s * n for s, n in zip(sounds, sizes, strict=True)), sounds[0] * 0)
        unsound, sound = (1 - sounds).sum(), sounds[-1]
        with torch.autocast(ones.device.type, enabled=False):
            pairs = ones.T @ ones
        if rank_and_size()[1] > 1:  # one batch, of which each process has a part
            pairs, items, unsound = add_up(pairs, items, unsound)
            sound = (unsound == 0).to(pairs)
            pairs, items, unsound = pairs * sound, items * sound, 1 - sound
        self.pairs.add_(pairs)
        self.counted_items.add_(items)
        self.skipped.add_(unsound.to(self.skipped))
        return sound

    def _fade(self) -> None:
        factor = self.memory / self.counted_items.clamp(min=self.memory)
        self.pairs.mul_(factor)
        self.counted_items.mul_(factor)

    def _settle(self) -> None:
        if self._shelf is not None and self._shelf.sizes:
            self._count_kept()

    @property
    def items(self) -> Tensor:
        """Number of items that the moments rest on, 0-d."""
        self._settle()
        return self.counted_items

    @property
    def skipped_batches(self) -> Tensor:
        """Number of batches that were left out, 0-d int64."""
        self._settle()
        return self.skipped

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
        self._shelf = None
        self.seen_batches = 0
        for buffer in self.buffers():
            buffer.zero_()

    def _save_to_state_dict(self, *args: Any) -> None:
        self._settle()
        self.batches.fill_(self.seen_batches)
        super()._save_to_state_dict(*args)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._shelf = None
        super()._load_from_state_dict(*args)
        self.seen_batches = int(self.batches)

    def extra_repr(self) -> str:
        """Show the size in print(model)."""
        return f"bits={self.bits}, memory={self.memory}"


def partition(
    edges: Tensor, out_bits: int, max_group: int, anchors: Tensor | None = None
) -> Tensor:
    r"""Cut K bits into groups along the strongest edges of a graph.

    Edges are taken from the strongest on. One is admissible if it joins two groups that
    together have at most `max_group` bits (and at most one anchor); it then merges them,
    until `out_bits` groups are left. If no admissible edge is left before that, the bits of
    the surplus groups (the smallest) move, one at a time, to the group with room to which
    they have the strongest edge.

    Args:
        edges: symmetric strengths; -inf for a pair that must not be an edge.
        out_bits: number of groups K'.
        max_group: bound on a group's size.
        anchors: marks bits of which no two may share a group.

    Shapes:   edges (K, K), anchors (K,) bool -> groups (K,) int64 with values 0..K'-1,
              numbered in the order of their first bits.
    Returns:  the group of each bit. Ties between edges fall to the lower bit numbers.
    Raises:   ValueError: K' not in 1..K, max_group too small for K' groups, NaN edges, or
              more anchors than groups.
    Source:   Fu et al., IJCAI 2019 (truncated graph).  Differs: the bound, and the rule for
              when it blocks, are ours.

    Example:
        >>> edges = torch.tensor([[0., 3., 1.], [3., 0., 2.], [1., 2., 0.]])
        >>> partition(edges, out_bits=2, max_group=2)
        tensor([0, 0, 1])
    """
    bits = len(edges)
    check_group_sizes(bits, out_bits, max_group)
    if bool(edges.isnan().any()):
        raise ValueError("edges hold NaN: the scorer measured nothing usable")
    if anchors is not None and int(anchors.sum()) > out_bits:
        raise ValueError(f"{int(anchors.sum())} anchors do not fit into {out_bits} groups")
    device, edges = edges.device, edges.double().cpu()
    fixed = [False] * bits if anchors is None else anchors.tolist()

    # members[g] lists the bits of group g, or is empty once g was merged into another.
    members = [[bit] for bit in range(bits)]
    group = list(range(bits))
    left = bits
    rows, columns = torch.triu_indices(bits, bits, offset=1)
    strengths = edges[rows, columns]
    order = strengths.argsort(descending=True, stable=True)
    for edge in order[strengths[order] > -torch.inf].tolist():
        if left == out_bits:
            break
        g, other = sorted((group[rows[edge]], group[columns[edge]]))
        together = members[g] + members[other]
        if (
            g == other
            or len(together) > max_group
            or sum(fixed[bit] for bit in together) > 1
        ):
            continue
        for bit in members[other]:
            group[bit] = g
        members[g], members[other] = together, []
        left -= 1
    if left > out_bits:
        _dissolve_surplus(edges, members, out_bits, max_group, fixed)

    groups = torch.empty(bits, dtype=torch.int64)
    for number, bits_of_group in enumerate(sorted(sorted(m) for m in members if m)):
        groups[bits_of_group] = number
    return groups.to(device)


def _dissolve_surplus(
    edges: Tensor,
    members: list[list[int]],
    out_bits: int,
    max_group: int,
    fixed: list[bool],
) -> None:
    def rank(g: int) -> tuple[bool, int]:
        return any(fixed[bit] for bit in members[g]), len(members[g])

    alive = [g for g in range(len(members)) if members[g]]
    alive.sort(key=rank, reverse=True)  # groups with an anchor stay, then the largest
    kept, surplus = alive[:out_bits], alive[out_bits:]
    for g in surplus:
        for bit in members[g]:
            room = [other for other in kept if len(members[other]) < max_group]
            strongest = [float(edges[bit, members[other]].max()) for other in room]
            best = room[strongest.index(max(strongest))]
            members[best].append(bit)
        members[g] = []


def check_group_sizes(bits: int, out_bits: int, max_group: int) -> None:
    """Refuse sizes for which no grouping exists.

    Args:
        bits: K.
        out_bits: K'.
        max_group: bound on a group's size.

    Raises:
        ValueError: not 1 <= K' <= K, or K' groups of `max_group` bits cannot hold K.
    """
    if not 1 <= out_bits <= bits:
        raise ValueError(f"out_bits must lie in 1..{bits}, got {out_bits}")
    if out_bits * max_group < bits:
        raise ValueError(
            f"max_group={max_group} is too small: {out_bits} groups cannot hold {bits} "
            f"bits; use at least {-(-bits // out_bits)}"
        )


def group_signs(correlation: Tensor, groups: Tensor) -> Tensor:
    r"""Signs under which the bits of a group agree.

    Formula:  s_i = sign ρ_{i,l}, s_l = +1, where l is the bit of the group with the largest
              sum of |ρ| to the others (the lowest number among equals).

    Args:
        correlation: signed ρ with zero diagonal.
        groups: group of each bit.

    Shapes:   (K, K), (K,) -> (K,) of -1 and +1.
    Returns:  +1 for the leading bit of each group; +1 where a correlation is 0.
    Raises:   nothing.
    Source:   this package (a bit may be the negation of another).  Differs: not in the
              abstract of Fu et al.
    """
    same = groups[:, None] == groups[None, :]
    total = (correlation.abs() * same).sum(1)
    leads = torch.where(same, total[None, :], -1.0).argmax(1)
    to_lead = correlation.gather(1, leads[:, None]).squeeze(1)
    return torch.where(to_lead < 0, -1.0, 1.0)


def gini(values: Tensor) -> float:
    r"""Inequality of non-negative values: 0 if all are equal, towards 1 if one has all.

    Formula:  G = sum over i, j of |v_i - v_j| / (2 K sum of v); negative values count as 0.

    Args:
        values: importances of bits.

    Shapes:   (K,) -> float.
    Returns:  value in [0, 1); 0 if no value is positive.
    Raises:   nothing.
    Source:   Gini 1912.  Differs: negative importances are clipped.

    Example:
        >>> gini(torch.tensor([0., 0., 0., 1.]))
        0.75
    """
    v = values.double().clamp(min=0)
    total = float(v.sum())
    if total == 0:
        return 0.0
    return float((v[:, None] - v[None, :]).abs().sum()) / (2 * len(v) * total)
