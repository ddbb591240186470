"""Let every bit split the batch in halves."""

from typing import Any

from torch import Tensor

from .base_bit_regularizer import BaseBitRegularizer


class BitBalanceRegularizer(BaseBitRegularizer):
    r"""Penalise bits that say the same of most items.

    Formula:  L = mean over k of (mean over i of u_ik)².

    Args:
        kwargs: PML's `reducer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign.
    Returns:  scalar >= 0; 0 when each bit's outputs sum to 0 over the batch, as a
              batch with as many +1 as -1 in every column does.
    Raises:   ValueError: embeddings not (B, K).
    Source:   the balance constraint of Weiss, Torralba, Fergus, NIPS 2008 (spectral
              hashing).  Differs: a penalty on the batch, not a constraint on the data
              set; a mean over bits, so its weight does not depend on K.

    Example:
        >>> import torch
        >>> BitBalanceRegularizer()(torch.tensor([[1.0, 1.0], [1.0, -1.0]])).item()
        0.5
    """

    def compute_loss(self, embeddings: Tensor) -> dict[str, dict[str, Any]]:
        """Return one number; PML would read a value a bit as a value an item."""
        return {
            "loss": {
                "losses": embeddings.mean(0).square().mean(),
                "indices": None,
                "reduction_type": "already_reduced",
            }
        }
