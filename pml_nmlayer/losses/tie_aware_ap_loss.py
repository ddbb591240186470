"""Average precision of the Hamming ranking, ties included, as an objective."""

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


class TieAwareAPLoss(BaseHashingLoss):
    r"""One minus tie-aware average precision of ranking the batch for every anchor.

    Formula:  L = 1 - mean over anchors with a similar item of AP_i.  For one anchor, let
              n_d items lie in distance bin d, h_d of them similar (soft counts), and
              N, H be the sums of n, h over the nearer bins. With ψ the digamma function:
              a_d = (ψ(N + n_d + 1) - ψ(N + 1)) / n_d          mean of 1 / rank in bin d
              q_d = (1 - (N + 1) a_d) / (n_d - 1)
              AP = sum_d h_d ((H + 1) a_d + (h_d - 1) q_d) / sum_d h_d.
              Whole counts make ψ a sum of 1 / rank and AP the exact mean of average
              precision over all orders of the tied items. Between whole counts AP stays
              within (0, 1], and is 1 where all items are similar.

    Args:
        sharpness: β > 0, slope of the relaxed code at 0; None is 3, or ½ under "paper".
        bins: intervals of [0, K], >= 1; None is K, a centre for each Hamming distance.
            Exactness on codes needs bins to be a multiple of K.
        preset: "paper" is the authors' released objective. φ(u) = tanh(β u) is neither
            scaled nor cut. `AP = sum_d h_d (2 H + h_d + 1) / (2 N + n_d + 1) / sum_d h_d`
            is exact on codes without ties. With ties it is at most 0.124 too low: one
            similar item among the five nearest, all tied. It is at most 0.075 too high:
            many similar items tied behind a few dissimilar ones.
        kwargs: PML's `reducer`, `embedding_regularizer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign; labels (B,) or multi-hot (B, C).
    Returns:  scalar in [0, 1). On codes of ±1 exactly one minus the mean tie-aware AP
              of every item against the others; 0 without any valid anchor.
    Raises:   ValueError: sharpness <= 0, bins < 1, an unknown preset, or a `distance`.
    Source:   He, Cakir, Bargal, Sclaroff, CVPR 2018, arXiv:1705.08562; tie-aware AP:
              McSherry, Najork, ECIR 2008.
              Differs: ψ makes the relaxation exact on codes, where the paper replaces
              the sums of 1 / rank by integrals; mean over anchors where they sum.

    Example:
        >>> codes = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
        >>> loss = TieAwareAPLoss()  # each anchor: rank 1 or 2, so AP = (1 + 1/2) / 2
        >>> loss(codes, torch.tensor([0, 0, 1])).item()
        0.25
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
                "TieAwareAPLoss measures relaxed Hamming distances itself; leave out "
                f"distance={type(self.distance).__name__}"
            )
        check_preset(preset)
        if sharpness is None:
            sharpness = 3.0 if preset is None else 0.5
        check_number("sharpness", sharpness, above=0)
        check_count("bins", bins, none="the default")
        self.sharpness = sharpness
        self.bins = bins
        self.simplified = preset == "paper"
        self.add_to_recordable_attributes(list_of_names=["sharpness"], is_stat=False)

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor | None,
        indices_tuple: tuple[Tensor, ...] | None,
        ref_emb: Tensor,
        ref_labels: Tensor | None,
    ) -> LossDict:
        """Return one minus average precision, one value an anchor."""
        masks = pair_masks(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        bins = embeddings.shape[1] if self.bins is None else self.bins
        counts = pair_histograms(
            embeddings, ref_emb, masks, bins, self.sharpness, not self.simplified
        )
        hits, items = counts[0], counts.sum(0)
        precision = (
            _simplified_precision(items, hits)
            if self.simplified
            else _expected_precision(items, hits)
        )
        n_similar = masks[0].sum(1)
        average = (hits * precision).sum(1) / n_similar.clamp(min=1)
        valid = (n_similar > 0).to(n_similar.dtype)
        share = len(embeddings) * valid / valid.sum().clamp(min=1)
        return {"loss": per_anchor(share * (1 - average))}

    def _sub_loss_names(self) -> list[str]:
        return ["loss"]


def _expected_precision(items: Tensor, hits: Tensor) -> Tensor:
    """Mean precision at the similar items of each bin; the docstring's formula.

    Args:
        items: (B, L) soft counts n_d, nearest bin first.
        hits: (B, L) soft counts h_d <= n_d.

    Returns:
        (B, L) in (0, 1], also where a bin is empty: what an item moved there would get.
    """
    # Differences of ψ cancel: float64, where the device has it. (B, L) is small.
    wide = torch.float32 if items.device.type == "mps" else torch.float64
    n, h = items.to(wide), hits.to(wide)
    before = n.cumsum(1) - n
    hits_before = h.cumsum(1) - h
    # a and q are smooth at n = 0 and n = 1, their fractions are not. A step of 1e-5 aside
    # changes AP by less than 1e-5 there and not at all on codes: at n = 1 the factor
    # h (h - 1) of q is 0, at n = 0 h is.
    step = 1e-5
    n_above_0 = n.clamp(min=step)
    mean_inverse_rank = (
        torch.digamma(before + n_above_0 + 1) - torch.digamma(before + 1)
    ) / n_above_0
    others = n_above_0 - 1
    others = torch.where(others.abs() < step, step, others)
    earlier_hit = (1 - (before + 1) * mean_inverse_rank) / others
    precision = (hits_before + 1) * mean_inverse_rank + (h - 1) * earlier_hit
    return precision.to(items.dtype)


def _simplified_precision(items: Tensor, hits: Tensor) -> Tensor:
    """Precision in the middle of each bin; the formula of preset="paper".

    Args:
        items: (B, L) soft counts n_d, nearest bin first.
        hits: (B, L) soft counts h_d <= n_d.

    Returns:
        (B, L) in (0, 1].
    """
    items_twice = 2 * items.cumsum(1) - items
    hits_twice = 2 * hits.cumsum(1) - hits
    return (hits_twice + 1) / (items_twice + 1)
