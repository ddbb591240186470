"""The graph of redundancy between bits, and how a graph becomes groups of bits."""

from typing import Any

import torch
from torch import Tensor, nn

from .codewords import assign_columns
from .process_group import add_up

_ROUNDS = 20  # of moving bits to other groups; it settles sooner
_TARGET_RIDGE = 0.1  # a bit's second moment is 1


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

    def __init__(self, bits: int, memory: int = 10_000) -> None:
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
            (scored,) = add_up(torch.full_like(self.scored_items, len(outputs)))
        self._remember(importance, redundancy, scored.to(self.pairs) * ~unsound)

    def pass_over(self) -> None:
        """Let one batch go by: it is numbered, and not looked at."""
        # Not by attribute: a module's own way to set one costs more than all else here
        vars(self)["seen_batches"] += 1

    def _count(self, outputs: Tensor) -> Tensor:
        """Count the pairs of bits; return whether the batch was left out instead."""
        # NaN and inf survive a sum, and then all products, on all processes
        spoiler = outputs.sum(dtype=torch.float32).mul_(0)
        ones = outputs.ge(0).float().add_(spoiler)
        pairs = ones.new_empty(self.bits, self.bits)
        torch.mm(ones.T, ones, out=pairs)  # autocast leaves a call with out= alone
        pairs, items = add_up(pairs, spoiler.add_(outputs.shape[0]))
        unsound = items.isnan()
        self.skipped_batches.add_(unsound)
        total = self.items.add_(items.nan_to_num_(0))
        fade = total.clamp(min=self.memory).reciprocal_().mul_(self.memory)
        self.pairs.add_(pairs.nan_to_num_(0)).mul_(fade)
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


def groups_for_targets(
    moment: Tensor, agreement: Tensor, max_group: int
) -> tuple[Tensor, Tensor]:
    r"""Cut K bits into groups whose weighted sums come close to given targets.

    Formula:  min over groups, w of  sum over g of E[(t_g - sum over k in g of w_k b_k)²]
              + ridge sum of w_k², a ridge regression in each group, with ridge 0.1. Bits
              are assigned to the targets that they agree with best; then weights are
              solved for, and bits assigned anew by what each would take off the error of a
              group, the other bits given, as long as the sum falls.

    Args:
        moment: S = E[b bᵀ].
        agreement: A = E[b tᵀ].
        max_group: bound on a group's size.

    Shapes:   (K, K), (K, K') -> groups (K,) int64, weights (K,), signed, in the dtype of
              `moment`.
    Returns:  no group is empty. Weights are 0 where bits know nothing of a target.
    Raises:   ValueError: K' not in 1..K, max_group too small for K' groups.
    Source:   this package.  Differs: not in Fu et al.

    Example:
        >>> agreement = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.2, 0.9]])
        >>> groups_for_targets(torch.eye(3), agreement, max_group=2)[0]
        tensor([0, 1, 1])
    """
    bits, targets = agreement.shape
    check_group_sizes(bits, targets, max_group)
    s, a = moment.double().cpu(), agreement.double().cpu()
    own = s.diagonal()[:, None]
    groups = _assign_groups(a.abs(), max_group)
    best = torch.inf, groups, torch.zeros(bits, dtype=torch.float64)
    for _ in range(_ROUNDS):
        weights = _ridge_in_groups(s, a, groups)
        error = -float((weights * a.gather(1, groups[:, None]).squeeze(1)).sum())
        if error >= best[0] - 1e-9:
            break
        best = error, groups, weights
        spread = torch.zeros_like(a).scatter_(1, groups[:, None], weights[:, None])
        missing = a - s @ spread + own * spread  # of each target, without the bit itself
        groups = _assign_groups(missing.square() / (own + _TARGET_RIDGE), max_group)
    _, groups, weights = best
    return groups.to(moment.device), weights.to(moment)


def _assign_groups(gains: Tensor, max_group: int) -> Tensor:
    """Give each bit a group, at most `max_group` to each and at least one."""
    targets = gains.shape[1]
    places = gains.repeat(1, max_group)
    places[:, :targets] += gains.sum() + 1  # so much that one place of each is taken
    return assign_columns(places) % targets


def _ridge_in_groups(moment: Tensor, agreement: Tensor, groups: Tensor) -> Tensor:
    """Solve for all groups at once: bits of other groups do not meet."""
    bits = len(groups)
    same = groups[:, None] == groups[None, :]
    system = moment * same + _TARGET_RIDGE * torch.eye(bits, dtype=moment.dtype)
    return torch.linalg.solve(system, agreement.gather(1, groups[:, None])).squeeze(1)


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
