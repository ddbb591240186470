"""Deep hashing network: pairwise likelihood with a smooth pull to ±1."""

import math
from typing import Any, Literal

from pytorch_metric_learning.distances import DotProductSimilarity
from torch import Tensor
from torch.nn import functional as F

from ..labels.relevance import jaccard
from ..runtime.options import check_flag
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


class DHNLoss(BaseHashingLoss):
    r"""Pairwise likelihood and the bimodal Laplacian prior of outputs near ±1 (DHN).

    Formula:  L = sum over pairs of w_ij (softplus(θ_ij) - s_ij θ_ij)
                  + λ mean over i, k of log cosh(|u_ik| - 1),
              θ_ij = ½⟨u_i, u_j⟩,  s_ij = 1 if i and j share a label,
              w = class-balanced (default) or plain mean over the pairs with i != j.

    Args:
        quantization_weight: λ >= 0, no unit.
        balanced: pairs that share a label and pairs that do not weigh one half each.
        similarity: "shared", or "jaccard": s_ij = |Y_i ∩ Y_j| / |Y_i ∪ Y_j|, a soft target
            whose optimum is a sigmoid of θ_ij equal to s_ij. Class ids know no difference.
        preset: "paper" takes the plain mean over off-diagonal pairs, whatever
            `balanced` says.
        kwargs: PML's `distance` (a similarity; default: unnormalised dot product),
            `reducer`, `embedding_regularizer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign; labels (B,) or multi-hot (B, C).
    Returns:  scalar; first term in nats a pair. Exactly 0 without any valid pair.
    Raises:   ValueError: quantization_weight < 0, an unknown similarity or preset, a
              distance that is not a similarity, or "jaccard" without labels.
    Source:   Zhu, Long, Wang, Cao, AAAI 2016.
              Differs: means where the paper sums, so λ does not depend on the number of
              items or bits; θ has the factor ½ that later papers settled on. A public
              TensorFlow code squares |u| - 1 and clips or normalises θ: not done here.

    Example:
        >>> import torch
        >>> loss = DHNLoss(quantization_weight=0, preset="paper")
        >>> loss(torch.zeros(2, 8), torch.tensor([0, 0])).item()
        0.693...
    """

    def __init__(
        self,
        *,
        quantization_weight: float = 0.1,
        balanced: bool = True,
        similarity: Literal["shared", "jaccard"] = "shared",
        preset: Literal["paper"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_not_negative(quantization_weight=quantization_weight)
        check_grading(similarity)
        check_flag("balanced", balanced)
        check_preset(preset)
        check_takes_similarity(self)
        self.quantization_weight = quantization_weight
        self.balanced = balanced and preset is None
        self.similarity = similarity
        self.add_to_recordable_attributes(
            list_of_names=["quantization_weight"], is_stat=False
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
        similar, dissimilar = pair_masks(
            embeddings, labels, indices_tuple, ref_emb, ref_labels
        )
        weights = pair_weights(similar, dissimilar, self.balanced)
        target = similar
        if self.similarity == "jaccard":
            if labels is None:
                raise ValueError("similarity='jaccard' needs labels, got None")
            target = jaccard(labels, ref_labels).to(embeddings.dtype)
        theta = 0.5 * self.distance(embeddings, ref_emb)
        nll = F.softplus(theta) - target * theta
        off = embeddings.abs() - 1
        # log cosh x without overflow; it is even, so the sign of x does not matter.
        log_cosh = off + F.softplus(-2 * off) - math.log(2)
        has_pairs = weights.any()
        return {
            "loss": weighted_pairs(nll, weights),
            "quantization_loss": per_anchor(
                self.quantization_weight * log_cosh.mean(1) * has_pairs
            ),
        }

    def get_default_distance(self) -> DotProductSimilarity:
        """θ is a plain inner product: normalising would be another loss."""
        return DotProductSimilarity(normalize_embeddings=False)

    def _sub_loss_names(self) -> list[str]:
        return ["loss", "quantization_loss"]
