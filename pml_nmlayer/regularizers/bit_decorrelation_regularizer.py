"""Let no two bits say the same thing."""

from typing import Any

from torch import Tensor

from .base_bit_regularizer import BaseBitRegularizer


class BitDecorrelationRegularizer(BaseBitRegularizer):
    r"""Penalise pairs of bits that agree, or disagree, over the batch.

    Formula:  L = mean over k ≠ l of G_kl²,  G = (1/B) Uᵀ U.

    Args:
        kwargs: PML's `reducer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign.
    Returns:  scalar >= 0; 0 when the columns are orthogonal, as those of a Hadamard
              matrix are. 0 for a single bit. With fewer items than bits the columns
              cannot all be orthogonal, and the penalty stays above 0.
    Raises:   ValueError: embeddings not (B, K).
    Source:   the uncorrelated-bits constraint of Weiss, Torralba, Fergus, NIPS 2008.
              Differs: a penalty on the batch; the diagonal of G is left to the
              quantization; a mean over pairs, so its weight does not depend on K.

    Example:
        >>> import torch
        >>> BitDecorrelationRegularizer()(torch.tensor([[1.0, 1.0], [1.0, 1.0]])).item()
        1.0
    """

    def compute_loss(self, embeddings: Tensor) -> dict[str, dict[str, Any]]:
        """Return one number; PML would read a value a bit as a value an item."""
        items, bits = embeddings.shape
        gram = embeddings.T @ embeddings / items
        off_diagonal = gram - gram.diag().diag()
        return {
            "loss": {
                "losses": off_diagonal.square().sum() / max(bits * (bits - 1), 1),
                "indices": None,
                "reduction_type": "already_reduced",
            }
        }
