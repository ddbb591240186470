"""Fold a trained head into plain linear maps."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from .progressive_head import ProgressiveHead


class Folded(nn.Module):
    """A folded head whose numbers are buffers: no optimizer touches them.

    It computes h = act(W x + b), and M h where there is a merge after the activation.

    Args:
        in_features: width of x.
        neurons: rows of W.
        bits: rows of M; None for no M.
        tanh: whether act is tanh, or nothing.

    Shapes:   x (B, in_features) -> (B, bits or neurons).
    """

    weight: Tensor
    bias: Tensor
    merge: Tensor | None

    def __init__(
        self, in_features: int, neurons: int, bits: int | None, tanh: bool
    ) -> None:
        super().__init__()
        self.tanh = tanh
        self.register_buffer("weight", torch.zeros(neurons, in_features))
        self.register_buffer("bias", torch.zeros(neurons))
        self.register_buffer("merge", None if bits is None else torch.zeros(bits, neurons))

    def forward(self, x: Tensor) -> Tensor:
        """Map trunk outputs to outputs of the code."""
        h = F.linear(x, self.weight, self.bias)
        h = torch.tanh(h) if self.tanh else h
        return h if self.merge is None else h @ self.merge.T

    def as_plain_modules(self) -> nn.Module:
        """Copy into a Linear, or a Sequential of Linear, Tanh and one more Linear."""
        layers: list[nn.Module] = [_linear(self.weight, self.bias)]
        if self.tanh:
            layers.append(nn.Tanh())
        if self.merge is not None:
            layers.append(_linear(self.merge, None))
        return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def empty_fold(head: "ProgressiveHead", stage: int) -> Folded:
    """Make what holds the fold of a head in a stage; its numbers come later.

    Args:
        head: of which the sizes are taken.
        stage: number of merges done.
    """
    after = head.merge == "tanh" and stage > 0
    bits = head.all_bits[stage]
    neurons = head.all_bits[0] if head.merge == "tanh" else bits
    weight = head.linear.weight
    folded = Folded(
        head.linear.in_features, neurons, bits if after else None, head.activation == "tanh"
    )
    return folded.to(weight.device, weight.dtype)


@torch.no_grad()
def fold_into(folded: Folded, head: "ProgressiveHead", stage: int) -> None:
    """Compose linear map, batch norm and merges of a head; see `ProgressiveHead.fold`.

    Args:
        folded: made for this stage; overwritten.
        head: a head in this stage or a later one.
        stage: how many of its merges count.
    """
    weight, bias = head.linear.weight.double(), head.linear.bias.double()
    if head.norm is not None:
        norm = head.norm
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
        weight = weight * scale[:, None]
        bias = (bias - norm.running_mean.double()) * scale + norm.bias.double()
    merge = head.merge_matrix(stage).double()
    if folded.merge is not None:
        folded.merge.copy_(merge)
    elif head.merge == "linear":
        weight, bias = merge @ weight, merge @ bias
    folded.weight.copy_(weight)
    folded.bias.copy_(bias)


@torch.no_grad()
def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    out_features, in_features = weight.shape
    linear = nn.Linear(
        in_features,
        out_features,
        bias is not None,
        device=weight.device,
        dtype=weight.dtype,
    )
    linear.weight.copy_(weight)
    if bias is not None:
        linear.bias.copy_(bias)
    return linear
