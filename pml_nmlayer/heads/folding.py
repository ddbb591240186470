"""Fold a trained head into plain linear maps."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..classes.read_out import ClassReadOut
from ..classes.served import Readout as Readout


class Folded(nn.Module):
    """A folded head whose numbers are buffers: no optimizer touches them.

    It computes act(W x + b + r), with r = T softmax(V x + v) of a classifier, if there is
    one.

    Args:
        in_features: width of x.
        bits: K, rows of W.
        tanh: whether act is tanh, or nothing.
        classes: C, rows of V; 0 for no classifier.

    Shapes:   x (B, in_features) -> (B, K).
    """

    weight: Tensor
    bias: Tensor
    class_weight: Tensor | None
    class_bias: Tensor | None
    words: Tensor | None

    def __init__(
        self, in_features: int, bits: int, *, tanh: bool, classes: int = 0
    ) -> None:
        super().__init__()
        self.tanh = tanh
        self.register_buffer("weight", torch.zeros(bits, in_features))
        self.register_buffer("bias", torch.zeros(bits))
        shapes = {
            "class_weight": (classes, in_features),
            "class_bias": (classes,),
            "words": (bits, classes),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape) if classes else None)

    def forward(self, x: Tensor) -> Tensor:
        """Map trunk outputs to outputs of the code."""
        h = F.linear(x, self.weight, self.bias)
        if self.class_weight is not None and self.words is not None:
            scores = F.linear(x, self.class_weight, self.class_bias)
            h = h + scores.softmax(1) @ self.words.T
        return torch.tanh(h) if self.tanh else h

    def as_plain_modules(self) -> nn.Module:
        """Copy into Linear, Readout, Tanh: one of them, or a Sequential."""
        layers: list[nn.Module] = [_linear(self.weight, self.bias)]
        if self.class_weight is not None and self.words is not None:
            classes = _linear(self.class_weight, self.class_bias)
            layers = [Readout(layers[0], classes, _linear(self.words, None))]
        if self.tanh:
            layers.append(nn.Tanh())
        return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def empty_fold(
    linear: nn.Linear, classes: ClassReadOut | None, bits: int, *, tanh: bool
) -> Folded:
    """Make what holds the fold of a head; its numbers come later.

    Args:
        linear: the head's neurons.
        classes: the head's read-out.
        bits: code length.
        tanh: whether the head ends in tanh.
    """
    added = classes is not None and classes.scale(bits) > 0
    count = classes.num_classes if classes is not None and added else 0
    folded = Folded(linear.in_features, bits, tanh=tanh, classes=count)
    return folded.to(linear.weight.device, linear.weight.dtype)


@torch.no_grad()
def fold_into(
    folded: Folded,
    linear: nn.Linear,
    norm: nn.BatchNorm1d | None,
    merge: Tensor,
    classes: ClassReadOut | None,
) -> Folded:
    """Write the numbers of a head into its fold.

    Args:
        folded: what `empty_fold` made of the same head.
        linear: neurons.
        norm: of the neurons, as in eval mode; None for none.
        merge: (bits, neurons).
        classes: the read-out.
    """
    weight, bias = fold_linear(linear, norm, merge)
    folded.weight.copy_(weight)
    folded.bias.copy_(bias)
    if folded.words is not None and classes is not None:
        assert classes.classifier is not None
        assert folded.class_weight is not None
        assert folded.class_bias is not None
        folded.class_weight.copy_(classes.classifier.weight)
        folded.class_bias.copy_(classes.classifier.bias)
        bits = len(merge)
        folded.words.copy_(classes.scale(bits) * classes.codewords(bits).T.double())
    return folded


def fold_linear(
    linear: nn.Linear, norm: nn.BatchNorm1d | None, merge: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Compose a linear map, a batch norm in eval mode, and a merge.

    Formula:  W' = M diag(s) W,  b' = M (s (b - m) + β),  s = γ / sqrt(v + ε).

    Args:
        linear: W (K, in_features) and b (K,).
        norm: with γ, β and the running m, v; None for none.
        merge: M (K', K).

    Returns:
        W' (K', in_features) and b' (K',), float64.

    Source:  this package.  Differs: no.
    """
    weight, bias = linear.weight.double(), linear.bias.double()
    if norm is not None:
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
        weight = weight * scale[:, None]
        bias = (bias - norm.running_mean.double()) * scale + norm.bias.double()
    merge = merge.double()
    return merge @ weight, merge @ bias


@torch.no_grad()
def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    out_features, in_features = weight.shape
    linear = nn.utils.skip_init(
        nn.Linear,
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
