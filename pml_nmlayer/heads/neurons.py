"""From the trunk's output to merged neurons and class scores."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..merging.nm_layer import NMLayer


def merged_neurons(
    x: Tensor,
    linear: nn.Linear,
    norm: nn.BatchNorm1d | None,
    layers: Sequence[NMLayer],
    classifier: nn.Linear | None,
    *,
    training: bool,
    joint: bool,
) -> tuple[list[Tensor], Tensor | None]:
    """Compute merged neurons and class scores.

    Args:
        x: (B, in_features).
        linear: neurons.
        norm: of the neurons; None for none.
        layers: merges made, in their order.
        classifier: of the class read-out; None for none.
        training: whether the batch norm takes statistics from the batch.
        joint: whether the code of each stage is wanted, not only the last one.

    Returns:
        (B, K) neurons of each stage, from the longest on, and (B, C) scores or None.
    """
    if norm is None and not joint:
        u, scores = _by_one_map(x, linear, layers, classifier)
        return [u], scores
    outputs = [_normalized(linear(x), norm, training)]
    for layer in layers:
        outputs.append(layer(outputs[-1]))
    scores = None if classifier is None else classifier(x)
    return outputs if joint else outputs[-1:], scores


def _by_one_map(
    x: Tensor, linear: nn.Linear, layers: Sequence[NMLayer], classifier: nn.Linear | None
) -> tuple[Tensor, Tensor | None]:
    """Merge weights, which are fewer than the outputs of long codes, and use x once."""
    weight: Tensor = linear.weight
    bias: Tensor = linear.bias
    for layer in layers:
        merge = layer.merge_matrix().to(weight.dtype)
        weight, bias = merge @ weight, merge @ bias
    if classifier is None:
        return F.linear(x, weight, bias), None
    both = torch.cat([weight, classifier.weight]), torch.cat([bias, classifier.bias])
    u, scores = F.linear(x, *both).split([len(weight), classifier.out_features], 1)
    return u, scores


def _normalized(u: Tensor, norm: nn.BatchNorm1d | None, training: bool) -> Tensor:
    if norm is None:
        return u
    if training:
        normal: Tensor = norm(u)
        return normal
    return F.batch_norm(
        u, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )
