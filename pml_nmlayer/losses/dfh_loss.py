"""Deep Fisher hashing: pairwise likelihood, outputs drawn to codes near class centres."""

from typing import Any, Literal

import torch
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.utils import common_functions as c_f
from torch import Tensor
from torch.nn import functional as F

from ..codes.convention import raw_sign
from ..labels.relevance import jaccard
from ..runtime.options import check_flag, check_number
from .base_hashing_loss import (
    BaseHashingLoss,
    LossDict,
    check_grading,
    check_not_negative,
    check_preset,
    check_takes_similarity,
    pair_masks,
    pair_weights,
    per_anchor,
    weighted_pairs,
)


class DFHLoss(BaseHashingLoss):
    r"""Pairwise likelihood with a margin, and codes pulled to binary class centres (DFH).

    Formula:  L = sum over pairs of w_ij (s_ij softplus(m K - θ_ij)
                                          + (1 - s_ij) softplus(m K + θ_ij))
                  + η mean over i, k of (u_ik - b_ik)²,
              θ_ij = ½⟨u_i, u_j⟩,  s_ij = 1 if i and j share a label,
              w = class-balanced (default) or plain mean over the pairs with i != j,
              b_i = sign(μ Σ_c y_ic c_c + u_i),  y_i = label row divided by its sum,
              centres c = sign(V) of this batch's classes, without gradient:
              V = argmin Σ_i ‖clip(u_i) - Σ_c y_ic v_c‖² + ν ‖Σ_c v_c‖² + 0.01 Σ_c ‖v_c‖²
                = (YᵀY + ν 11ᵀ + 0.01 I)⁻¹ Yᵀ clip(U),   clip(u) = u cut to [-1, 1].

    The first term of V gathers a class (within-class scatter). For binary centres
    ‖Σ c_c‖² = C K + Σ over c != c' of ⟨c_c, c_c'⟩, so the second term drives the centres of
    different classes apart (between-class scatter). Nothing is kept between batches, so
    there is no number of classes to declare; batches with several items of a class help.

    Args:
        margin: m, per bit, in [0, ½): θ lies within ±K/2 for codes, whatever K.
        quantization_weight: η >= 0, no unit.
        center_weight: μ >= 0, in units of u: an output is drawn across 0 to its class
            centre as long as |u| < μ.
        separation_weight: ν >= 0, weight of ‖Σ v‖² against one item.
        balanced: pairs that share a label and pairs that do not weigh one half each.
        similarity: "shared", or "jaccard": s_ij = |Y_i ∩ Y_j| / |Y_i ∪ Y_j|.
        preset: "paper" takes the plain mean over off-diagonal pairs, whatever
            `balanced` says; all other defaults are the authors'.
        kwargs: PML's `distance` (a similarity; default: unnormalised dot product),
            `reducer`, `embedding_regularizer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign; labels (B,) or multi-hot (B, C). A row
              without any label has no centre: b = sign(u).
    Returns:  scalar; first term in nats a pair. Exactly 0 without any valid pair.
    Raises:   ValueError: no labels, margin outside [0, ½), a weight < 0, an unknown
              similarity or preset, or a distance that is not a similarity.
    Source:   Li, Pei, Zha, van Gemert, BMVC 2019, arXiv:1909.00206.
              Differs: centres in closed form from the batch alone, where the authors
              update kept ones class by class; pairs come from the batch. Their released
              margin is 0; public ports use 3 and 1 at every K.

    Example:
        >>> loss = DFHLoss(quantization_weight=0, preset="paper")
        >>> loss(torch.zeros(2, 8), torch.tensor([0, 0])).item()
        0.693...
    """

    def __init__(
        self,
        *,
        margin: float = 0.0,
        quantization_weight: float = 0.5,
        center_weight: float = 1.0,
        separation_weight: float = 1.0,
        balanced: bool = True,
        similarity: Literal["shared", "jaccard"] = "shared",
        preset: Literal["paper"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_number("margin", margin)
        if not 0 <= margin < 0.5:
            raise ValueError(f"margin is per bit, in [0, 0.5); got {margin}")
        check_not_negative(
            quantization_weight=quantization_weight,
            center_weight=center_weight,
            separation_weight=separation_weight,
        )
        check_flag("balanced", balanced)
        self.quantization_weight = quantization_weight
        self.center_weight = center_weight
        self.separation_weight = separation_weight
        check_grading(similarity)
        check_preset(preset)
        check_takes_similarity(self)
        self.margin = margin
        self.balanced = balanced and preset is None
        self.similarity = similarity
        self.add_to_recordable_attributes(
            list_of_names=[
                *("margin", "quantization_weight"),
                *("center_weight", "separation_weight"),
            ],
            is_stat=False,
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
        c_f.labels_required(labels)
        assert labels is not None
        similar, dissimilar = pair_masks(
            embeddings, labels, indices_tuple, ref_emb, ref_labels
        )
        weights = pair_weights(similar, dissimilar, self.balanced)
        target = similar
        if self.similarity == "jaccard":
            target = jaccard(labels, ref_labels).to(embeddings.dtype)
        theta = 0.5 * self.distance(embeddings, ref_emb)
        margin = self.margin * embeddings.shape[1]
        # softplus(m - θ) = softplus(θ - m) - (θ - m): without a margin one softplus does.
        apart = F.softplus(margin + theta)
        together = (F.softplus(theta - margin) if margin else apart) - theta + margin
        metric = target * together + (1 - target) * apart
        codes = self.target_codes(embeddings, labels)
        quantization = (embeddings - codes).square().mean(1)
        has_pairs = weights.any()
        return {
            "loss": weighted_pairs(metric, weights),
            "quantization_loss": per_anchor(
                self.quantization_weight * quantization * has_pairs
            ),
        }

    @torch.no_grad()
    def target_codes(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return b, (B, K) of -1 and +1: between an item's own code and its centres."""
        rows = _label_rows(labels, embeddings)
        centers = raw_sign(
            _fisher_centers(embeddings.clamp(-1, 1), rows, self.separation_weight)
        )
        return raw_sign(self.center_weight * rows @ centers + embeddings)

    def get_default_distance(self) -> DotProductSimilarity:
        """θ is a plain inner product: normalising would be another loss."""
        return DotProductSimilarity(normalize_embeddings=False)

    def _sub_loss_names(self) -> list[str]:
        return ["loss", "quantization_loss"]


def _label_rows(labels: Tensor, embeddings: Tensor) -> Tensor:
    """Label rows that sum to 1; the class of class ids is its first item in the batch.

    Args:
        labels: class ids (B,) or multi-hot rows (B, C).
        embeddings: dtype and device of the result.

    Returns:
        (B, B) for class ids: as many columns as there may be classes, no look at the ids
        themselves; (B, C) for multi-hot rows.
    """
    if labels.ndim == 2:
        rows = labels.to(embeddings.dtype)
        return rows / rows.sum(1, keepdim=True).clamp(min=1)
    earlier_first = torch.arange(len(labels), 0, -1, device=labels.device)
    first = ((labels[:, None] == labels) * earlier_first).argmax(1)
    return F.one_hot(first, len(labels)).to(embeddings.dtype)


def _fisher_centers(codes: Tensor, rows: Tensor, separation_weight: float) -> Tensor:
    """Relaxed class centres V of a batch; the docstring's formula.

    Args:
        codes: (B, K) outputs cut to [-1, 1].
        rows: (B, C) label rows that sum to 1; a column of zeros is no class.
        separation_weight: ν.

    Returns:
        (C, K), 0 for columns that are no class.
    """
    present = (rows.sum(0) > 0).to(rows.dtype)
    ridge = 0.01 * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    gram = rows.T @ rows + separation_weight * torch.outer(present, present) + ridge
    return torch.linalg.solve_ex(gram, rows.T @ codes)[0]
