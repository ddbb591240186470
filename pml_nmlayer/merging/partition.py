"""Cut a graph of bits into groups of bounded size."""

import torch
from torch import Tensor

_ROUNDS = 20  # of moving bits to other groups; it settles sooner


def partition(
    edges: Tensor, out_bits: int, max_group: int, anchors: Tensor | None = None
) -> Tensor:
    r"""Cut K bits into groups along the strongest edges of a graph.

    Edges are taken from the strongest on. One is admissible if it joins two groups that
    together have at most `max_group` bits (and at most one anchor); it then merges them,
    until `out_bits` groups are left. If no admissible edge is left before that, the bits of
    the smallest groups move, one at a time. Each goes to the group with room to which it
    has the strongest edge.

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
