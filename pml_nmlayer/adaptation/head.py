"""The head that is trained: a linear map, class codewords and anchor codewords."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..classes.served import LabelReadout, Readout
from .features import FeatureMap

_RIDGE = 0.1  # times the mean second moment of a feature
SHARPNESS = 20.0  # of the softmax over anchors, for features of unit length


class AnchorHead(nn.Module):
    r"""Outputs of a linear map, of anchors and of known classes, added up.

    Formula:  u = W z + w + V softmax(C z + c) + T p, for features z and the class
              probabilities p of an item.

    Args:
        anchors: (M, D) centroids of unit length, the start of C / 20.
        bits: K.
        num_classes: width of p; 0 for none.

    Shapes:   z (B, D), p (B, num_classes) or None -> (B, K).
    Source:   this package; anchors as in anchor graph hashing (Liu et al., ICML 2011).
              Differs: anchors and codewords are trained.
    """

    def __init__(self, anchors: Tensor, *, bits: int, num_classes: int) -> None:
        super().__init__()
        count, features = anchors.shape
        self.weight = nn.Parameter(anchors.new_zeros(bits, features))
        self.bias = nn.Parameter(anchors.new_zeros(bits))
        self.anchor_weight = nn.Parameter(SHARPNESS * anchors)
        self.anchor_bias = nn.Parameter(anchors.new_zeros(count))
        self.anchor_words = nn.Parameter(anchors.new_zeros(bits, count))
        self.class_words = nn.Parameter(anchors.new_zeros(bits, num_classes))

    def forward(self, z: Tensor, probabilities: Tensor | None) -> Tensor:
        """Map features and class probabilities to outputs."""
        nearness = F.linear(z, self.anchor_weight, self.anchor_bias).softmax(1)
        outputs = F.linear(z, self.weight, self.bias) + nearness @ self.anchor_words.T
        if probabilities is not None:
            outputs = outputs + probabilities @ self.class_words.T
        return outputs

    @torch.no_grad()
    def start_from(self, outputs: Tensor, z: Tensor, probabilities: Tensor | None) -> None:
        """Set each codeword to the mean of wanted outputs near its anchor or class.

        Args:
            outputs: (N, K) wanted outputs.
            z: (N, D) features.
            probabilities: (N, num_classes), or None.
        """
        if len(self.anchor_weight) == 0:
            self._regress(outputs, z)
            return
        nearness = F.linear(z, self.anchor_weight, self.anchor_bias).softmax(1)
        share = 1.0 if probabilities is None else 0.5
        self.anchor_words.copy_(share * _means(outputs, nearness))
        if probabilities is not None:
            self.class_words.copy_(share * _means(outputs, probabilities))

    def _regress(self, outputs: Tensor, z: Tensor) -> None:
        """Ridge regression of wanted outputs, where there are no anchors."""
        centre, mean = z.mean(0), outputs.mean(0)
        gram = (z - centre).double().T @ (z - centre).double()
        gram.diagonal().add_(_RIDGE * gram.diagonal().mean() + 1e-12)
        moments = (z - centre).double().T @ (outputs - mean).double()
        weight = torch.linalg.solve(gram, moments).T.float()
        self.weight.copy_(weight)
        self.bias.copy_(mean - weight @ centre)

    @torch.no_grad()
    def fold(
        self,
        features: FeatureMap,
        classifier: tuple[Tensor, Tensor] | None,
        *,
        several: bool = False,
    ) -> nn.Module:
        """Write the head as plain layers of embeddings.

        Args:
            features: the map from embeddings to z.
            classifier: weight (C, D) and bias (C,) of scores of embeddings, or None.
            several: whether an item may have several labels.

        Returns:
            a Linear, or a Readout of it where there are anchors or classes.
        """
        module: nn.Module = _linear(*features.of_raw(self.weight, self.bias))
        if len(self.anchor_weight):
            anchors = _linear(*features.of_raw(self.anchor_weight, self.anchor_bias))
            module = Readout(module, anchors, _linear(self.anchor_words))
        if classifier is not None:
            kind = LabelReadout if several else Readout
            module = kind(module, _linear(*classifier), _linear(self.class_words))
        return module.eval().requires_grad_(False)


def _means(outputs: Tensor, weights: Tensor) -> Tensor:
    return outputs.T @ weights / weights.sum(0).clamp(min=1e-6)


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    out_features, in_features = weight.shape
    # Built without its random start: the global generator stays untouched
    linear = nn.utils.skip_init(
        nn.Linear, in_features, out_features, bias is not None, dtype=weight.dtype
    )
    linear.weight.copy_(weight)
    if bias is not None:
        linear.bias.copy_(bias)
    return linear
