"""What every regularizer of codes shares: raw embeddings, safe precision, empty batches."""

import torch
from pytorch_metric_learning.regularizers import BaseRegularizer
from torch import Tensor


class BaseBitRegularizer(BaseRegularizer):
    r"""A PML regularizer that reads the raw embeddings, before sign, never normalised.

    Subclasses implement PML's `compute_loss`. It is called with autocast off and with
    embeddings of at least float32. An empty batch is answered here: exactly 0.

    Shapes:   embeddings (B, K) real, before sign.
    Returns:  a scalar that carries a gradient, after PML's reducer.
    Raises:   ValueError: embeddings not (B, K). TypeError: they are no floats.
    Source:   pytorch-metric-learning, BaseRegularizer.forward.
              Differs: shape, precision and the empty batch are settled here.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Compute the penalty of one batch of embeddings (B, K)."""
        if not torch.is_tensor(x) or not x.is_floating_point():
            raise TypeError(
                "embeddings must be real outputs before sign, a tensor of floats, got "
                f"{getattr(x, 'dtype', type(x).__name__)}"
            )
        if x.ndim != 2:
            raise ValueError(f"embeddings must have shape (B, K), got {tuple(x.shape)}")
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        if x.numel() == 0:
            return x.sum()
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)
