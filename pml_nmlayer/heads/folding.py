"""Fold a trained head into plain linear maps."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from .progressive_head import ProgressiveHead


class Readout(nn.Module):
    r"""Add the codewords of the classes that a classifier thinks of.

    Formula:  neurons(x) + words(softmax(classes(x))).

    Args:
        neurons: maps x to K outputs.
        classes: maps x to C scores.
        words: the C codewords of K bits, times their strength, as a Linear without bias.

    Shapes:   x (B, in_features) -> (B, K).
    Source:   this package; see `ProgressiveHead`.  Differs: no.
    """

    def __init__(self, neurons: nn.Module, classes: nn.Linear, words: nn.Linear) -> None:
        super().__init__()
        self.neurons = neurons  # no "code": what torch.export returns has one of its own
        self.classes = classes
        self.words = words

    def forward(self, x: Tensor) -> Tensor:
        """Map trunk outputs to outputs of the code before its last activation."""
        return self.neurons(x) + self.words(self.classes(x).softmax(1))


class Folded(nn.Module):
    """A folded head whose numbers are buffers: no optimizer touches them.

    It computes h = act(W x + b + r), and M act(W x + b) + r where there is a merge after
    the activation, with r = T softmax(V x + v) of a classifier, if there is one.

    Args:
        in_features: width of x.
        neurons: rows of W.
        bits: rows of M; None for no M.
        tanh: whether act is tanh, or nothing.
        classes: rows of V; 0 for no classifier.

    Shapes:   x (B, in_features) -> (B, bits or neurons).
    """

    weight: Tensor
    bias: Tensor
    merge: Tensor | None
    class_weight: Tensor | None
    class_bias: Tensor | None
    words: Tensor | None

    def __init__(
        self,
        in_features: int,
        neurons: int,
        bits: int | None,
        tanh: bool,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.tanh = tanh
        self.register_buffer("weight", torch.zeros(neurons, in_features))
        self.register_buffer("bias", torch.zeros(neurons))
        self.register_buffer("merge", None if bits is None else torch.zeros(bits, neurons))

        known = classes > 0
        width = neurons if bits is None else bits
        self.register_buffer(
            "class_weight", torch.zeros(classes, in_features) if known else None
        )
        self.register_buffer("class_bias", torch.zeros(classes) if known else None)
        self.register_buffer("words", torch.zeros(width, classes) if known else None)

    def forward(self, x: Tensor) -> Tensor:
        """Map trunk outputs to outputs of the code."""
        h = F.linear(x, self.weight, self.bias)
        if self.merge is not None:
            h = torch.tanh(h) @ self.merge.T
        if self.class_weight is not None and self.words is not None:
            scores = F.linear(x, self.class_weight, self.class_bias)
            h = h + scores.softmax(1) @ self.words.T
        return torch.tanh(h) if self.tanh and self.merge is None else h

    def as_plain_modules(self) -> nn.Module:
        """Copy into Linear, Tanh, Readout: one of them, or a Sequential."""
        layers: list[nn.Module] = [_linear(self.weight, self.bias)]
        if self.merge is not None:
            layers += [nn.Tanh(), _linear(self.merge, None)]
        if self.class_weight is not None and self.words is not None:
            classes = _linear(self.class_weight, self.class_bias)
            layers = [Readout(_in_turn(layers), classes, _linear(self.words, None))]
        if self.tanh and self.merge is None:
            layers.append(nn.Tanh())
        return _in_turn(layers)


def _in_turn(layers: list[nn.Module]) -> nn.Module:
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
        head.linear.in_features,
        neurons,
        bits if after else None,
        head.activation == "tanh",
        classes=0
        if head.classifier is None or stage == 0
        else head.classifier.out_features,
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
    a = head.readout_scale(stage)
    if folded.merge is not None:
        folded.merge.copy_(merge / (1 + a))
    elif head.merge == "linear":
        weight, bias = merge @ weight, merge @ bias
    folded.weight.copy_(weight)
    folded.bias.copy_(bias)
    if folded.class_weight is not None:
        assert head.classifier is not None
        assert folded.class_bias is not None
        assert folded.words is not None
        folded.class_weight.copy_(head.classifier.weight)
        folded.class_bias.copy_(head.classifier.bias)
        words = a * head.codewords_of(stage).T.double()
        folded.words.copy_(words if folded.merge is None else words / (1 + a))


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
