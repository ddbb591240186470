"""A sign that splits every bit of a batch into two halves."""

from typing import Any

import torch
from torch import Tensor, nn

from ..codes.convention import sign_ste


class _HalfSign(torch.autograd.Function):
    @staticmethod
    def forward(u: Tensor, gamma: float) -> Tensor:
        # a stable sort settles ties by row, so that exactly half of the rows are +1
        order = u.argsort(dim=0, descending=True, stable=True)
        return torch.full_like(u, -1).scatter_(0, order[: len(u) // 2], 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        u, ctx.gamma = inputs
        ctx.save_for_backward(u, output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        u, b = ctx.saved_tensors
        return grad_outputs[0] + ctx.gamma * (u - b) / u.numel(), None


class BiHalf(nn.Module):
    r"""Binarize so that each bit is +1 for half of the batch (bi-half layer).

    Formula:  training:    b_ik = +1 for the ⌊B/2⌋ largest u_ik of column k, else -1;
                           of equal values the first rows are +1;
                           dL/du := dL/db + γ (u - b) / (B K).
              evaluation:  b = sign u, sign(0) = +1;  dL/du := dL/db.

    Args:
        gamma: γ >= 0, no unit; pull of outputs to their half, as from a loss term
            ½ γ mean (u - b)².

    Shapes:   u (B, K) -> b (B, K), floating point.
    Returns:  tensor of exactly -1 and +1 that carries a gradient.
    Raises:   ValueError: gamma < 0, or u not (B, K).
    Source:   Li, van Gemert, AAAI 2021, arXiv:2012.12334.
              Differs: γ belongs to the instance; ties are settled by row. As with batch
              norm, training looks at the whole batch and evaluation does not. Bits of a
              batch of one class are split too. Batches summed up by gradient
              accumulation are split one by one. The pull does not come from the loss, so
              scaling the loss (by an AMP gradient scaler, say) does not scale it.

    Example:
        >>> BiHalf()(torch.tensor([[0.1, 3.0], [0.2, 1.0], [0.3, 2.0], [0.4, 4.0]]))
        tensor([[-1.,  1.],
                [-1., -1.],
                [ 1., -1.],
                [ 1.,  1.]])
    """

    def __init__(self, gamma: float = 6.0) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"gamma must be >= 0, got {gamma}")
        self.gamma = gamma

    def forward(self, u: Tensor) -> Tensor:
        """Binarize one batch."""
        if u.ndim != 2:
            raise ValueError(f"BiHalf needs outputs of shape (B, K), got {tuple(u.shape)}")
        if not self.training:
            return sign_ste(u)
        return _HalfSign.apply(u, self.gamma)

    def extra_repr(self) -> str:
        """Show γ when printed."""
        return f"gamma={self.gamma}"
