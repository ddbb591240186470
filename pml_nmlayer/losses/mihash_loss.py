"""Hashing with mutual information."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from ..runtime.options import check_count, check_number
from .base_hashing_loss import (
    BaseHashingLoss,
    LossDict,
    check_preset,
    pair_masks,
    per_anchor,
)
from .soft_histograms import pair_histograms


class MIHashLoss(BaseHashingLoss):
    r"""Mutual information between Hamming distance and being similar (MIHash).

    Formula:  L = - mean over anchors i of I(D_i; S_i),
              I(D; S) = H(D) - H(D | S) = H(S) - H(S | D)
                      = sum over l, s of p(l, s) log2 (p(l, s) / (p(l) p(s))),
              p = soft histogram over the pairs of anchor i: distance bin l, similar or
              not s (see `soft_histogram`, `relaxed_codes` for the relaxed distance D).
              Anchors without a similar or without a dissimilar item are left out.

    Args:
        sharpness: β > 0, slope of the relaxed code at 0; None is 3, or ½ under "paper".
        bins: intervals of [0, K], >= 1; None is K // 2, at least 1. Any K: the
            intervals are K / bins wide, whole or not.
        preset: "paper" takes φ(u) = tanh(β u), neither scaled nor cut; β = ½ is the
            sigmoid slope 1 of the authors' code.
        kwargs: PML's `reducer`, `embedding_regularizer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign; labels (B,) or multi-hot (B, C).
    Returns:  scalar in [-1, 0], in bits (log base 2). Exactly 0 without any valid anchor.
    Raises:   ValueError: sharpness <= 0, bins < 1, an unknown preset, or a `distance`.
    Source:   Cakir, He, Bargal, Sclaroff, ICCV 2017, arXiv:1703.08919, and
              arXiv:1803.00974.
              Differs: mean over valid anchors where the authors sum over all; a steeper
              relaxation that leaves codes of ±1 as they are.

    Example:
        >>> codes = torch.tensor([[1.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [-1.0, -1.0]])
        >>> MIHashLoss(bins=2)(codes, torch.tensor([0, 0, 1, 1])).item()
        -0.918...
    """

    def __init__(
        self,
        *,
        sharpness: float | None = None,
        bins: int | None = None,
        preset: Literal["paper"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kwargs.get("distance") is not None:
            raise ValueError(
                "MIHashLoss measures relaxed Hamming distances itself; leave out "
                f"distance={type(self.distance).__name__}"
            )
        check_preset(preset)
        if sharpness is None:
            sharpness = 3.0 if preset is None else 0.5
        check_number("sharpness", sharpness, above=0)
        check_count("bins", bins, none="the default")
        self.sharpness = sharpness
        self.bins = bins
        self.keep_codes = preset is None
        self.add_to_recordable_attributes(list_of_names=["sharpness"], is_stat=False)

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor | None,
        indices_tuple: tuple[Tensor, ...] | None,
        ref_emb: Tensor,
        ref_labels: Tensor | None,
    ) -> LossDict:
        """Return the negative mutual information, one value an anchor."""
        similar, dissimilar = masks = pair_masks(
            embeddings, labels, indices_tuple, ref_emb, ref_labels
        )
        bins = max(1, embeddings.shape[1] // 2) if self.bins is None else self.bins
        counts = pair_histograms(
            embeddings, ref_emb, masks, bins, self.sharpness, self.keep_codes
        )
        totals = torch.stack([similar.sum(1), dissimilar.sum(1)])
        information = _mutual_information_bits(counts, totals)
        valid = totals.all(0).to(totals.dtype)
        share = len(embeddings) * valid / valid.sum().clamp(min=1)
        return {"loss": per_anchor(-share * information)}

    def _sub_loss_names(self) -> list[str]:
        return ["loss"]


def _mutual_information_bits(counts: Tensor, totals: Tensor) -> Tensor:
    r"""Mutual information of distance bin l and similarity s, in bits.

    Formula:  I = H(S) - H(S | D), by counts: H(S) is a constant of the labels, and
              -H(S | D) = 1/n sum over l, s of n_sl log2 (n_sl / n_l).

    Args:
        counts: (2, B, L) counts n_sl, similar pairs first.
        totals: (2, B) their sums, taken from the masks: free of rounding.

    Returns:
        (B,) in [0, 1] up to rounding.
    """
    eps = torch.finfo(counts.dtype).eps
    share = counts / counts.sum(0).clamp(min=eps)
    # n log n -> 0, but its slope grows without bound: empty bins get slope 0 instead.
    log_share = torch.where(counts > eps, share, 1.0).log()
    n = totals.sum(0).clamp(min=1)
    prior = totals / n
    negative_conditional = (counts * log_share).sum((0, 2)) / n
    return (negative_conditional - torch.xlogy(prior, prior).sum(0)) / math.log(2)
