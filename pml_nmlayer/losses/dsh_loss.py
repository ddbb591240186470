"""Deep supervised hashing: contrastive loss with a pull to ±1."""

from typing import Any, Literal

from pytorch_metric_learning.distances import LpDistance
from torch import Tensor

from ..runtime.options import check_flag, check_number
from .base_hashing_loss import (
    BaseHashingLoss,
    LossDict,
    check_not_negative,
    check_preset,
    pair_masks,
    pair_weights,
    per_anchor,
    weighted_pairs,
)


class DSHLoss(BaseHashingLoss):
    r"""Similar codes together, dissimilar ones a margin apart, outputs near ±1 (DSH).

    Formula:  L = ½ sum over pairs of w_ij (s_ij d_ij + (1 - s_ij) max(0, m - d_ij))
                  + α mean over i, k of | |u_ik| - 1 |,
              d_ij = ‖u_i - u_j‖² / K,  s_ij = 1 if i and j share a label,
              w = class-balanced (default) or plain mean over the pairs with i != j.

    Args:
        margin: m > 0, per bit. Codes that differ in h bits have d = 4 h / K, so m = 2
            asks dissimilar codes to differ in half of their bits, whatever K.
        quantization_weight: α >= 0, no unit; None is 0.01, or 0.02 under "paper". More
            of it saturates heads that end in tanh before the classes part.
        balanced: similar and dissimilar pairs weigh one half each.
        preset: "paper" takes the plain mean over off-diagonal pairs, whatever `balanced`
            says, and sums distance, margin and penalty over the bits: K times ours. The
            paper's m = 2K and α = 0.01 (counted for both items of a pair) are then
            margin=2 and quantization_weight=0.02.
        kwargs: PML's `distance` (not a similarity; default: squared Euclidean), `reducer`,
            `embedding_regularizer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign; labels (B,) or multi-hot (B, C).
    Returns:  scalar, no unit. Exactly 0 without any valid pair.
    Raises:   ValueError: margin <= 0, quantization_weight < 0, an unknown preset, or a
              distance that is a similarity.
    Source:   Liu, Wang, Shan, Chen, CVPR 2016.
              Differs: distances and margin per bit, so that no constant depends on K;
              balanced pairs by default; an item is not paired with itself.

    Example:
        >>> import torch
        >>> loss = DSHLoss(quantization_weight=0)
        >>> loss(torch.zeros(2, 8), torch.tensor([0, 1])).item()  # ½ balanced, ½ m
        0.5
    """

    def __init__(
        self,
        *,
        margin: float = 2.0,
        quantization_weight: float | None = None,
        balanced: bool = True,
        preset: Literal["paper"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_number("margin", margin, above=0)
        check_flag("balanced", balanced)
        check_preset(preset)
        if quantization_weight is None:
            quantization_weight = 0.01 if preset is None else 0.02
        check_not_negative(quantization_weight=quantization_weight)
        if self.distance.is_inverted:
            raise ValueError(
                "DSHLoss needs a distance such as LpDistance(normalize_embeddings=False, "
                f"power=2), got {type(self.distance).__name__}, a similarity"
            )
        self.margin = margin
        self.quantization_weight = quantization_weight
        self.balanced = balanced and preset is None
        self.sum_bits = preset == "paper"
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
        similar, dissimilar = pair_masks(
            embeddings, labels, indices_tuple, ref_emb, ref_labels
        )
        weights = pair_weights(similar, dissimilar, self.balanced)
        bits = embeddings.shape[1]
        scale = bits if self.sum_bits else 1
        distance = self.distance(embeddings, ref_emb) / bits
        hinge = (self.margin - distance).relu()
        pairs = 0.5 * (similar * distance + dissimilar * hinge)
        quantization = (embeddings.abs() - 1).abs().mean(1)
        has_pairs = weights.any()
        return {
            "loss": weighted_pairs(scale * pairs, weights),
            "quantization_loss": per_anchor(
                scale * self.quantization_weight * quantization * has_pairs
            ),
        }

    def get_default_distance(self) -> LpDistance:
        """Squared Euclidean, of the outputs as they are."""
        return LpDistance(normalize_embeddings=False, p=2, power=2)

    def _sub_loss_names(self) -> list[str]:
        return ["loss", "quantization_loss"]
