"""Methods that use no labels and learn no network."""

from torch import Tensor

from ..interface import Method, Problem, method
from ..search import Choice
from . import quantizers
from .quantizers import Quantizer


class OnFeatures:
    """A quantizer of the raw features."""

    on_features = True

    def __init__(self, quantizer: Quantizer) -> None:
        self.quantizer = quantizer

    def fit(self, features: Tensor, labels: Tensor) -> None:
        self.quantizer.train(features)

    def encode(self, features: Tensor) -> dict[str, Tensor]:
        return {"code": self.quantizer.codes(features)}

    def head_parameters(self) -> tuple[int, int]:
        return self.quantizer.numbers, self.quantizer.numbers


@method(
    "itq",
    "ITQ on raw features",
    family="quantizer",
    iterations=Choice(5, 10, 20, 50, 100, 200),
)
def itq(problem: Problem, iterations: int = 50) -> Method:
    return OnFeatures(quantizers.itq(problem.in_features, problem.bits, iterations))


@method("pca_sign", "PCA, sign, on raw features", family="quantizer")
def pca_sign(problem: Problem) -> Method:
    return OnFeatures(quantizers.pca_sign(problem.in_features, problem.bits))


@method("lsh", "LSH on raw features", family="quantizer")
def lsh(problem: Problem) -> Method:
    return OnFeatures(quantizers.lsh(problem.in_features, problem.bits))
