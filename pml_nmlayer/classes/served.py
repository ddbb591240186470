"""A class read-out as plain layers, for serving."""

from torch import Tensor, nn


class Readout(nn.Module):
    r"""Add the codewords of the classes that a classifier predicts.

    Formula:  neurons(x) + words(softmax(classes(x))).

    Args:
        neurons: maps x to K outputs.
        classes: maps x to C scores.
        words: the C codewords of K bits, times their strength, as a Linear without bias.

    Shapes:   x (B, in_features) -> (B, K).
    Source:   this package; see `ClassReadOut`.  Differs: no.
    """

    def __init__(self, neurons: nn.Module, classes: nn.Linear, words: nn.Linear) -> None:
        super().__init__()
        self.neurons = neurons  # no "code": what torch.export returns has one of its own
        self.classes = classes
        self.words = words

    def forward(self, x: Tensor) -> Tensor:
        """Map trunk outputs to outputs of the code before its last activation."""
        return self.neurons(x) + self.words(self.classes(x).softmax(1))


class LabelReadout(Readout):
    r"""Add the codewords of the labels that an item is likely to have.

    Formula:  neurons(x) + words(sigmoid(classes(x))).

    Args:
        neurons: maps x to K outputs.
        classes: maps x to C scores.
        words: what each of the C labels adds to K outputs, as a Linear without bias.

    Shapes:   x (B, in_features) -> (B, K).
    Source:   this package.  Differs: no.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map embeddings to outputs of the code."""
        return self.neurons(x) + self.words(self.classes(x).sigmoid())
