"""Ways from real vectors to K bits that are learned without labels, all by faiss."""

from collections.abc import Callable, Sequence

import faiss
import torch
from torch import Tensor

from pml_nmlayer.codes import binarize

from ..interface import ASYMMETRIC, Encoded, Pair


class Quantizer:
    """The signs of what a chain of faiss transforms makes of vectors."""

    def __init__(self, transforms: Sequence[faiss.VectorTransform]) -> None:
        self.transforms = transforms

    def train(self, vectors: Tensor) -> None:
        """Fit one transform after the other."""
        values = vectors.contiguous().numpy()
        for transform in self.transforms:
            transform.train(values)
            values = transform.apply(values)

    def outputs(self, vectors: Tensor) -> Tensor:
        """Return what the signs are taken of."""
        values = vectors.contiguous().numpy()
        for transform in self.transforms:
            values = transform.apply(values)
        return torch.from_numpy(values)

    def codes(self, vectors: Tensor) -> Tensor:
        return binarize(self.outputs(vectors))

    @property
    def numbers(self) -> int:
        """Count the numbers of the one affine map that it is."""
        first, last = self.transforms[0], self.transforms[-1]
        return first.d_in * last.d_out + last.d_out


Maker = Callable[[int, int], Quantizer]  # (in_features, bits)


def both_sides(name: str, outputs: Tensor) -> dict[str, Encoded]:
    """Give codes, and the outputs themselves for real queries."""
    return {name: binarize(outputs), f"{name}{ASYMMETRIC}": Pair(outputs)}


def itq(in_features: int, bits: int, iterations: int) -> Quantizer:
    """Iterative quantization. Source: Gong and Lazebnik, CVPR 2011."""
    transform = faiss.ITQTransform(in_features, bits, True)
    transform.itq.max_iter = iterations
    transform.itq.seed = _seed()
    transform.max_train_per_dim = 2**20  # faiss would leave training items out
    return Quantizer([transform])


def pca_sign(in_features: int, bits: int) -> Quantizer:
    """Signs of the principal components of largest variance."""
    return Quantizer([_pca(in_features, bits)])


def pca_rotated(in_features: int, bits: int) -> Quantizer:
    """The same, rotated at random. Source: Jegou et al., CVPR 2010; Gong et al., 2011."""
    return Quantizer([_pca(in_features, bits), _rotation(bits, bits)])


def lsh(in_features: int, bits: int) -> Quantizer:
    """Signs of random directions around the mean of the training items.

    Source: Charikar, STOC 2002.  Differs: the mean is taken off, and the directions are
    orthogonal, as in faiss.IndexLSH.
    """
    rotation = _rotation(in_features, bits)
    return Quantizer([faiss.CenteringTransform(in_features), rotation])


def _pca(in_features: int, dimensions: int) -> faiss.PCAMatrix:
    transform = faiss.PCAMatrix(in_features, dimensions)
    transform.max_points_per_d = 2**20
    return transform


def _rotation(in_features: int, dimensions: int) -> faiss.RandomRotationMatrix:
    rotation = faiss.RandomRotationMatrix(in_features, dimensions)
    rotation.init(_seed())
    return rotation


def _seed() -> int:
    return int(torch.randint(2**31, ()))
