"""Methods that use no labels and learn no network."""

import faiss
import torch
from torch import Tensor

from pml_nmlayer.codes import binarize

from ..interface import Method, Problem, method
from ..search import Choice


class ITQ:
    """Iterative quantization of the raw features (faiss).

    Source: Gong and Lazebnik, CVPR 2011.
    """

    def __init__(self, problem: Problem, iterations: int) -> None:
        self.transform = faiss.ITQTransform(problem.in_features, problem.bits, True)
        self.transform.itq.max_iter = iterations
        self.transform.itq.seed = int(torch.randint(2**31, ()))
        self.transform.max_train_per_dim = 2**20  # faiss would leave training items out

    def fit(self, features: Tensor, labels: Tensor) -> None:
        self.transform.train(features.numpy())

    def encode(self, features: Tensor) -> dict[str, Tensor]:
        return {"code": binarize(torch.from_numpy(self.transform.apply(features.numpy())))}

    def head_parameters(self) -> tuple[int, int]:
        served = self.transform.pca_then_itq
        count = served.d_in * served.d_out + served.d_out
        return count, count


@method("itq", "ITQ on raw features", iterations=Choice(5, 10, 20, 50, 100, 200))
def itq(problem: Problem, iterations: int = 50) -> Method:
    return ITQ(problem, iterations)
