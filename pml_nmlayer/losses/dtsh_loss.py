"""Triplet likelihood: each similar item nearer than each dissimilar one, by a margin."""

from typing import Any, Literal

import torch
from pytorch_metric_learning.distances import DotProductSimilarity
from torch import Tensor
from torch.nn import functional as F

from ..codes.convention import raw_sign
from ..runtime.options import check_number
from .base_hashing_loss import (
    BaseHashingLoss,
    LossDict,
    check_not_negative,
    check_preset,
    check_takes_similarity,
    pair_masks,
    per_anchor,
)


class DTSHLoss(BaseHashingLoss):
    r"""Likelihood of triplet labels, with a pull to ±1 (DTSH).

    Formula:  L = mean over anchors i of mean over triplets (i, p, n) of
                      softplus(m K - θ_ip + θ_in)
                  + λ mean over i, k of (u_ik - sign u_ik)²,
              θ_ij = ½⟨u_i, u_j⟩,  p shares a label with i and n does not,
              anchors without a triplet are left out.

    Args:
        margin: m, per bit, in [0, 1): n has to be m K bits further than p, whatever K.
            None is ¼, or ½ under "paper". With ½ most triplets stay short of the margin,
            and heads that end in tanh saturate early.
        quantization_weight: λ >= 0, no unit; None is 0.1, or K / 225 under "paper".
        preset: "paper" takes the authors' values for what is not given: m = ½, that is
            K / 2 in all, and λ = K / 225. That is their 100 for the sum of squares, against
            a sum over 50 · 50 · 9 triplets an anchor.
        kwargs: PML's `distance` (a similarity; default: unnormalised dot product),
            `reducer`, `embedding_regularizer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign; labels (B,) or multi-hot (B, C).
    Returns:  scalar; first term in nats a triplet. Exactly 0 without any triplet.
              A miner's triplets are taken as they are, its pairs are joined to triplets
              by anchor. Memory: one row of the batch for each similar pair, <= B³ numbers.
    Raises:   ValueError: margin outside [0, 1), quantization_weight < 0, an unknown
              preset, or a distance that is not a similarity.
    Source:   Wang, Shi, Kitani, ACCV 2016, arXiv:1612.03900.
              Differs: all triplets of the batch where the authors draw some from the
              training set; the gradient also flows into p and n. Public ports fix the
              margin at 5 without the factor ½ and count an item as its own p.

    Example:
        >>> loss = DTSHLoss(margin=0, quantization_weight=0)
        >>> loss(torch.zeros(3, 8), torch.tensor([0, 0, 1])).item()
        0.693...
    """

    def __init__(
        self,
        *,
        margin: float | None = None,
        quantization_weight: float | None = None,
        preset: Literal["paper"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_preset(preset)
        if margin is None:
            margin = 0.25 if preset is None else 0.5
        check_number("margin", margin)
        if not 0 <= margin < 1:
            raise ValueError(f"margin is per bit, in [0, 1); got {margin}")
        # The paper's weight depends on K, which the first batch tells: sum over bits.
        self.sum_bits = preset == "paper" and quantization_weight is None
        if quantization_weight is None:
            quantization_weight = 0.1 if preset is None else 1 / 225
        check_not_negative(quantization_weight=quantization_weight)
        check_takes_similarity(self)
        self.margin = margin
        self.quantization_weight = quantization_weight
        self.add_to_recordable_attributes(
            list_of_names=["margin", "quantization_weight"], is_stat=False
        )

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor | None,
        indices_tuple: tuple[Tensor, ...] | None,
        ref_emb: Tensor,
        ref_labels: Tensor | None,
    ) -> LossDict:
        """Return the two sub-losses, one value an anchor each."""
        bits = embeddings.shape[1]
        theta = 0.5 * self.distance(embeddings, ref_emb)
        if indices_tuple is not None and len(indices_tuple) == 3:
            sums, counts = _given_triplets(theta, self.margin * bits, indices_tuple)
        else:
            masks = pair_masks(embeddings, labels, indices_tuple, ref_emb, ref_labels)
            sums, counts = _all_triplets(theta, self.margin * bits, *masks)
        valid = (counts > 0).to(counts.dtype)
        share = len(embeddings) * valid / valid.sum().clamp(min=1)
        quantization = (embeddings - raw_sign(embeddings.detach())).square()
        quantization = quantization.sum(1) if self.sum_bits else quantization.mean(1)
        return {
            "loss": per_anchor(share * sums / counts.clamp(min=1)),
            "quantization_loss": per_anchor(
                self.quantization_weight * quantization * valid.any()
            ),
        }

    def get_default_distance(self) -> DotProductSimilarity:
        """θ is a plain inner product: normalising would be another loss."""
        return DotProductSimilarity(normalize_embeddings=False)

    def _sub_loss_names(self) -> list[str]:
        return ["loss", "quantization_loss"]


def _given_triplets(
    theta: Tensor, margin: float, triplets: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Sum the losses of given triplets by anchor.

    Args:
        theta: (B, R) half inner products.
        margin: in units of θ.
        triplets: anchors, positives, negatives, (T,) each.

    Returns:
        (sums, counts): (B,) each.
    """
    anchors, positives, negatives = (rows.to(theta.device) for rows in triplets)
    losses = F.softplus(margin - theta[anchors, positives] + theta[anchors, negatives])
    zeros = theta.new_zeros(len(theta))
    sums = zeros.index_add(0, anchors, losses)
    return sums, zeros.index_add(0, anchors, torch.ones_like(losses))


def _all_triplets(
    theta: Tensor, margin: float, similar: Tensor, dissimilar: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum the losses of all triplets by anchor.

    Args:
        theta: (B, R) half inner products.
        margin: in units of θ.
        similar: (B, R) mask of 0 and 1.
        dissimilar: (B, R) mask of 0 and 1.

    Returns:
        (sums, counts): (B,) each.
    """
    # Listing the similar pairs costs a GPU one synchronisation and spares the dense
    # (B, R, R) tensor, nearly empty when classes are many.
    anchors, positives = torch.where(similar > 0)
    needed = margin - theta[anchors, positives]
    # softplus(-inf) = 0, with slope 0: what is not dissimilar drops out of the sum.
    others = theta.masked_fill(dissimilar == 0, -torch.inf).index_select(0, anchors)
    by_pair = F.softplus(needed[:, None] + others).sum(1)
    sums = theta.new_zeros(len(theta)).index_add(0, anchors, by_pair)
    return sums, similar.sum(1) * dissimilar.sum(1)
