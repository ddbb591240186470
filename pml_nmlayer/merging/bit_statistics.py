r"""What single bits of a code do: balance, entropy, correlation, importance.

Notation: N items, K bits, b codes of -1 and +1, p_k the share of items whose bit k is +1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..codes.packing import unpack_codes
from ..hamming.distance import checked_codes
from ..hamming.histograms import MAX_BYTES
from ..labels.checks import check_labels
from ..ranking.average_precision import mean_average_precision
from .gini import gini
from .pair_likelihood import drop_one_importance

_BLOCK = 1024  # items whose pairs are looked at together for the likelihood


@dataclass(frozen=True)
class BitStatistics:
    """Statistics of K bits; see `bit_statistics`.

    Args:
        balance: (K,) mean of each bit, 0 at best.
        entropy: (K,) in bits, 1 at best.
        correlation: (K, K), zero diagonal.
        importance: (K,) how much is lost without each bit; None without labels.
    """

    balance: Tensor
    entropy: Tensor
    correlation: Tensor
    importance: Tensor | None

    def summary(self) -> dict[str, float]:
        """One number each: mean |balance|, entropy, |correlation|; Gini of importance."""
        pairs = max(len(self.balance) * (len(self.balance) - 1), 1)
        numbers = {
            "bit_imbalance": float(self.balance.abs().mean()),
            "bit_entropy": float(self.entropy.mean()),
            "bit_correlation": float(self.correlation.abs().sum()) / pairs,
        }
        if self.importance is not None:
            numbers["bit_importance_gini"] = gini(self.importance)
        return numbers


def bit_statistics(
    codes: Tensor, labels: Tensor | None = None, bits: int | None = None
) -> BitStatistics:
    r"""Measure the bits of a set of codes.

    Formula:  balance m_k = mean of b_k;  entropy -p log2 p - (1 - p) log2(1 - p) with
              p = (1 + m_k) / 2;  correlation (E[b_i b_j] - m_i m_j) / (σ_i σ_j) for i != j,
              with σ² = 1 - m²;  importance as `drop_one_likelihood`.

    Args:
        codes: -1 and +1, or packed uint8.
        labels: class ids or multi-hot rows; None leaves importance out.
        bits: code length K in bits; required for packed codes only.

    Shapes:   codes (N, K), labels (N,) or (N, C), N >= 1.
    Returns:  `BitStatistics` in float64. A bit that never flips has entropy 0 and
              correlation 0 with all others.
    Raises:   ValueError: not codes, no items, or labels that do not fit.
    Source:   Shannon 1948, Pearson 1895.  Differs: no; moments are sums of integers, hence
              exact before the last division.

    Example:
        >>> codes = torch.tensor([[1, 1], [1, -1], [1, 1], [1, -1]])
        >>> bit_statistics(codes).entropy
        tensor([0., 1.], dtype=torch.float64)
    """
    codes, bits = checked_codes(codes, bits, "codes")
    if len(codes) == 0:
        raise ValueError("there are no codes to look at (N = 0)")
    total = torch.zeros(bits, dtype=torch.float64, device=codes.device)
    moment = torch.zeros(bits, bits, dtype=torch.float64, device=codes.device)
    for block in codes.split(2**14):  # float32 sums of so few are exact integers
        b = _floats(block, bits)
        total += b.sum(0)
        with torch.autocast(b.device.type, enabled=False):
            moment += b.T @ b
    mean, moment = total / len(codes), moment / len(codes)
    variance = 1 - mean.square()
    scale = torch.where(variance > 0, variance, torch.inf).rsqrt()
    correlation = (moment - torch.outer(mean, mean)) * torch.outer(scale, scale)
    importance = None if labels is None else drop_one_likelihood(codes, labels, bits)
    return BitStatistics(mean, _entropy(mean), correlation.fill_diagonal_(0), importance)


def drop_one_likelihood(codes: Tensor, labels: Tensor, bits: int | None = None) -> Tensor:
    r"""How much worse pairs are told apart when a bit is left out, over a whole set.

    Formula:  mean over blocks, weighted by their items, of `drop_one_importance` with its
              threshold.
              Blocks are drawn at random (always the same way), about 1,024 items each, so
              that neither sorting nor cycling through the classes does harm.

    Args:
        codes: -1 and +1, or packed uint8.
        labels: class ids or multi-hot rows.
        bits: code length K in bits; required for packed codes only.

    Shapes:   codes (N, K), labels (N,) or (N, C) -> (K,) float64.
    Returns:  importances in nats a pair; zeros if no block has both kinds of pairs.
    Raises:   ValueError: not codes, or labels that do not fit.
    Source:   as `pair_likelihood.drop_one_importance`.  Differs: blocks, since all pairs
              of N items take N² numbers.
    """
    codes, bits = checked_codes(codes, bits, "codes")
    labels = torch.as_tensor(labels).to(codes.device)
    check_labels(labels, len(codes))
    total = torch.zeros(bits, dtype=torch.float64, device=codes.device)
    weight = torch.zeros((), dtype=torch.float64, device=codes.device)
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))
    blocks = max(round(len(codes) / _BLOCK), 1)
    for m in range(blocks):
        rows = order[m::blocks].to(codes.device)
        block = _floats(codes[rows], bits)
        importance, items = drop_one_importance(block, labels[rows], threshold=True)
        total += importance * items
        weight += items
    return total / weight.clamp(min=1)


def drop_one_map(
    q: Tensor,
    q_labels: Tensor,
    r: Tensor,
    r_labels: Tensor,
    k: int | None = None,
    ref_includes_query: bool = False,
    bits: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> Tensor:
    r"""How much mAP falls when a bit is left out: exact, and as slow as K + 1 evaluations.

    Formula:  v_k = mAP(all bits) - mAP(without bit k).

    Args:
        q: query codes, -1 and +1, or packed uint8.
        q_labels: class ids or multi-hot rows.
        r: database codes, in the same form.
        r_labels: labels of the database, in the same form.
        k: number of ranks that count; None for all.
        ref_includes_query: the database begins with the queries; none finds itself.
        bits: code length K in bits; required for packed codes only.
        max_bytes: bound on memory beyond the arguments and one copy of the codes.

    Shapes:   q (Q, K), r (N, K), labels as `mean_average_precision` -> (K,) float64.
    Returns:  values in [-1, 1], negative for a bit that does harm. `redundancy.gini` tells
              how unequal they are.
    Raises:   ValueError: fewer than 2 bits, or as `mean_average_precision`.
    Source:   this package.  Differs: no.
    """
    (q, bits), (r, _) = (
        checked_codes(q, bits, "queries"),
        checked_codes(r, bits, "database"),
    )
    if bits < 2:
        raise ValueError("codes of a single bit have none to leave out")
    q, r = _floats(q, bits), _floats(r, bits)

    def value(kept: Tensor) -> float:
        return mean_average_precision(
            q[:, kept], q_labels, r[:, kept], r_labels, k,
            ref_includes_query=ref_includes_query, max_bytes=max_bytes,
        )  # fmt: skip

    every = torch.arange(bits, device=q.device)
    whole = value(every)
    lost = [whole - value(every[every != bit]) for bit in range(bits)]
    return torch.tensor(lost, dtype=torch.float64)


def _floats(codes: Tensor, bits: int) -> Tensor:
    return unpack_codes(codes, bits) if codes.dtype == torch.uint8 else codes.float()


def _entropy(mean: Tensor) -> Tensor:
    p = torch.stack([1 + mean, 1 - mean]) / 2
    return torch.special.entr(p).sum(0) / math.log(2)
