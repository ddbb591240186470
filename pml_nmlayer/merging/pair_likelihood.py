"""What bits are worth to the class-balanced pair likelihood, in closed form."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..labels.relevance import shared_label


class _Pairs(NamedTuple):
    """The ordered pairs of a batch, each (B, B)."""

    theta: Tensor  # ½⟨b_i, b_j⟩
    weight: Tensor  # similar pairs sum to ½, dissimilar ones to ½; the diagonal is 0
    towards: Tensor  # +1 similar, -1 dissimilar: a pair's loss is softplus(-θ towards)
    usable: Tensor  # 0-d bool: there are pairs of both kinds

    def loss(self, shift: float) -> Tensor:
        """Weighted loss of every pair if its θ were θ + shift."""
        return self.weight * F.softplus(-(self.theta + shift) * self.towards)


def _pairs(codes: Tensor, labels: Tensor) -> _Pairs:
    same = shared_label(labels)
    n_similar = same.sum() - same.diagonal().sum()
    n_dissimilar = len(codes) * (len(codes) - 1) - n_similar
    weight = torch.where(
        same, 0.5 / n_similar.clamp(min=1), 0.5 / n_dissimilar.clamp(min=1)
    ).fill_diagonal_(0)
    towards = torch.where(same, 1.0, -1.0)
    usable = (n_similar > 0) & (n_dissimilar > 0)
    return _Pairs((0.5 * codes) @ codes.T, weight, towards, usable)


def _table(bits: int, device: torch.device, taus: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of x = -K/2 .. K/2, the bend ½ (l(x - ½) + l(x + ½)) - l(x) and the fall
    l(x - ½) - l(x + ½) of l(x) = softplus(-x); with taus of x - τ, one τ after the other.
    """
    x = torch.arange(bits + 1, dtype=torch.float64, device=device) - 0.5 * bits
    if taus is not None:
        x = (x - taus[:, None]).flatten()
    less, more = F.softplus(0.5 - x), F.softplus(-0.5 - x)
    bend = 0.5 * (less + more) - F.softplus(-x)
    return bend.float(), (less - more).float()


def drop_one_importance(
    codes: Tensor, labels: Tensor, threshold: bool = False
) -> tuple[Tensor, Tensor]:
    r"""How much the class-balanced pair likelihood suffers when a bit is left out.

    Formula:  L(θ) = ½ mean over similar pairs of softplus(τ - θ)
                   + ½ mean over dissimilar pairs of softplus(θ - τ),  θ_ij = ½⟨b_i, b_j⟩;
              v_k = L(θ - ½ b_k b_kᵀ) - L(θ), with the same τ.
              τ = 0; with `threshold` the middle between the mean θ of similar and that of
              dissimilar pairs.
              As b_ik b_jk is -1 or +1, a pair's loss has two possible values only, so with
              W = w (l(θ - ½) - l(θ + ½)):  v_k = ½ sum w (l(θ - ½) + l(θ + ½)) - L(θ)
              + ½ b_kᵀ W b_k, which costs one (B, B) x (B, K) product for all bits.

    Args:
        codes: -1 and +1.
        labels: class ids or multi-hot rows.
        threshold: judge pairs by the side of τ on which they are. With τ = 0 no v may be
            above 0 where classes are many, which still ranks bits, as scorers do, but does
            not tell how even they are.

    Shapes:   codes (B, K), labels (B,) or (B, C) -> importance (K,), items ().
    Returns:  (v, B), v in nats a pair, larger for a bit that is missed more; it may be
              negative. (zeros, 0) for a batch without similar or without dissimilar pairs.
    Raises:   ValueError: labels of another kind (see `similarity`).
    Source:   this package; the likelihood is that of DPSH, arXiv:1511.03855.
              Differs: class-balanced, as with many classes the plain one rises with almost
              every bit that is left out.
    """
    codes = codes.float()
    with torch.autocast(codes.device.type, enabled=False):
        pairs = _pairs(codes, labels)
        # θ has K + 1 values, so the logarithms are taken of these and not of all pairs
        place = (pairs.theta * pairs.towards + 0.5 * codes.shape[1]).flatten().int()
        taus = None
        if threshold:
            tau = (pairs.weight.double() * pairs.theta).sum()  # weights of each kind: ½
            taus = torch.stack([tau, -tau])  # of similar pairs, of dissimilar ones
            place = place + (codes.shape[1] + 1) * (pairs.towards < 0).flatten()
        bend, fall = _table(codes.shape[1], codes.device, taus)
        constant = pairs.weight.flatten() @ bend.index_select(0, place)
        w = pairs.weight * pairs.towards * fall.index_select(0, place).view_as(pairs.theta)
        v = constant + 0.5 * (codes * (w @ codes)).sum(0)
    return v * pairs.usable, pairs.usable * float(len(codes))
