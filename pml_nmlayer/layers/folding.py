"""Fold a trained head into plain linear maps."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .progressive_head import ProgressiveHead


@torch.no_grad()
def fold_head(head: "ProgressiveHead") -> nn.Module:
    """Compose linear map, batch norm and merges of a head; see `ProgressiveHead.fold`.

    Args:
        head: a head in any stage.

    Returns:
        A Linear, or a Sequential of Linear, Tanh and for merge="tanh" one more Linear.
    """
    weight, bias = head.linear.weight.double(), head.linear.bias.double()
    if head.norm is not None:
        norm = head.norm
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
        weight = weight * scale[:, None]
        bias = (bias - norm.running_mean.double()) * scale + norm.bias.double()
    merge = head.merge_matrix().double()
    like = head.linear.weight
    if head.merge == "linear":
        linear = _linear(merge @ weight, merge @ bias, like)
        return nn.Sequential(linear, nn.Tanh()) if head.activation else linear
    first = _linear(weight, bias, like)
    if head.stage == 0:
        return nn.Sequential(first, nn.Tanh())
    return nn.Sequential(first, nn.Tanh(), _linear(merge, None, like))


def _linear(weight: Tensor, bias: Tensor | None, like: Tensor) -> nn.Linear:
    out_features, in_features = weight.shape
    linear = nn.Linear(
        in_features, out_features, bias is not None, device=like.device, dtype=like.dtype
    )
    linear.weight.copy_(weight)
    if bias is not None:
        linear.bias.copy_(bias)
    return linear
