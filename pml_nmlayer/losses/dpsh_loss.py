"""Deep pairwise-supervised hashing."""

from typing import Any, Literal

from pytorch_metric_learning.distances import DotProductSimilarity
from torch import Tensor
from torch.nn import functional as F

from ..codes.convention import raw_sign
from ..runtime.options import check_flag
from .base_hashing_loss import (
    BaseHashingLoss,
    LossDict,
    check_not_negative,
    check_preset,
    check_takes_similarity,
    pair_masks,
    pair_weights,
    per_anchor,
    weighted_pairs,
)


class DPSHLoss(BaseHashingLoss):
    r"""Pairwise likelihood of similar and dissimilar codes, with a pull to ±1 (DPSH).

    Formula:  L = sum over pairs of w_ij (softplus(θ_ij) - s_ij θ_ij)
                  + λ mean over i, k of (u_ik - sign u_ik)²,
              θ_ij = ½⟨u_i, u_j⟩,  s_ij = 1 if i and j share a label,
              w = class-balanced (default) or plain mean over the pairs with i != j.

    Args:
        quantization_weight: λ >= 0, no unit.
        balanced: similar and dissimilar pairs weigh one half each. With many classes
            similar pairs are rare, and the plain mean forgets them.
        preset: "paper" takes the plain mean over off-diagonal pairs, whatever
            `balanced` says.
        kwargs: PML's `distance` (a similarity; default: unnormalised dot product),
            `reducer`, `embedding_regularizer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign; labels (B,) or multi-hot (B, C).
    Returns:  scalar; first term in nats a pair. Exactly 0 without any valid pair.
    Raises:   ValueError: quantization_weight < 0, an unknown preset, or a distance that
              is not a similarity.
    Source:   Li, Wang, Kang, IJCAI 2016, arXiv:1511.03855.
              Differs: means where the paper sums over the training set, so λ does not
              depend on the number of items or bits. Pairs come from the batch, not from
              a memory of the whole training set.

    Example:
        >>> import torch
        >>> loss = DPSHLoss(quantization_weight=0, preset="paper")
        >>> loss(torch.zeros(2, 8), torch.tensor([0, 0])).item()
        0.693...
    """

    def __init__(
        self,
        *,
        quantization_weight: float = 0.1,
        balanced: bool = True,
        preset: Literal["paper"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_not_negative(quantization_weight=quantization_weight)
        check_flag("balanced", balanced)
        check_preset(preset)
        check_takes_similarity(self)
        self.quantization_weight = quantization_weight
        self.balanced = balanced and preset is None
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
        theta = 0.5 * self.distance(embeddings, ref_emb)
        nll = F.softplus(theta) - similar * theta
        quantization = (embeddings - raw_sign(embeddings.detach())).square().mean(1)
        has_pairs = weights.any()
        return {
            "loss": weighted_pairs(nll, weights),
            "quantization_loss": per_anchor(
                self.quantization_weight * quantization * has_pairs
            ),
        }

    def get_default_distance(self) -> DotProductSimilarity:
        """θ is a plain inner product: normalising would be another loss."""
        return DotProductSimilarity(normalize_embeddings=False)

    def _sub_loss_names(self) -> list[str]:
        return ["loss", "quantization_loss"]
