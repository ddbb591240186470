"""Codes that stand for vectors and are compared by squared distance: PQ, OPQ, RaBitQ."""

from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor

from pml_nmlayer.codes import binarize

from ..interface import ASYMMETRIC, Encoded, Pair, Unsuited

_ITERATIONS = 10  # of OPQ; faiss would make 50


def by_distance(queries: Tensor, stored: Tensor, squares: Tensor, bits: int) -> Pair:
    """Rank by -|q|^2 + 2 q.r - |r|^2, the first term left out, as an inner product.

    Args:
        queries: (N, D).
        stored: (N, D).
        squares: what is taken for |r|^2 (N,).
        bits: of a stored item.
    """
    asking = torch.cat([2 * queries, -torch.ones(len(queries), 1)], 1)
    return Pair(asking, torch.cat([stored, squares[:, None]], 1), bits)


class Product:
    """Product quantization of principal components, rotated or not.

    Sources: Jegou, Douze, Schmid, PAMI 2011; Ge, He, Ke, Sun, CVPR 2013 (OPQ).

    Args:
        bits: of a code: 8 a part, or fewer where 8 do not divide it or where there are
            fewer items than centroids.
        dimensions: principal components that are kept, rounded down to whole parts.
        rotated: learn a rotation as well (OPQ).
    """

    def __init__(self, bits: int, dimensions: int, *, rotated: bool) -> None:
        self.bits, self.dimensions, self.rotated = bits, dimensions, rotated

    def train(self, vectors: Tensor) -> None:
        sizes = (n for n in (8, 6, 4, 3, 2) if self.bits % n == 0)
        each = next((n for n in sizes if 2**n <= len(vectors)), 0)
        if not each:
            raise Unsuited(f"{self.bits} bits are no parts of 8, 6, 4, 3 or 2 bits")
        parts = self.bits // each
        most = min(self.dimensions, vectors.shape[1], len(vectors))
        width = max(most // parts, 1) * parts
        self.chain: list[faiss.VectorTransform] = [faiss.PCAMatrix(vectors.shape[1], width)]
        self.quantizer = faiss.ProductQuantizer(width, parts, each)
        self.quantizer.cp.min_points_per_centroid = 1
        if self.rotated:
            rotation = faiss.OPQMatrix(width, parts, width)
            # as many centroids a part as will be used, where faiss would take 256
            self.inner = faiss.ProductQuantizer(width, parts, each)
            self.inner.cp.min_points_per_centroid = 1
            rotation.pq = self.inner
            rotation.niter = _ITERATIONS
            rotation.max_train_points = 2**20
            self.chain.append(rotation)
        values = vectors.contiguous().numpy()
        for transform in self.chain:
            transform.train(values)
            values = transform.apply(values)
        self.quantizer.train(values)

    def pairs(self, name: str, vectors: Tensor) -> dict[str, Encoded]:
        """Compare codes with codes, and real queries with codes."""
        values = vectors.contiguous().numpy()
        for transform in self.chain:
            values = transform.apply(values)
        codes = self.quantizer.compute_codes(values)
        decoded: Any = self.quantizer.decode  # whose types are those of C++
        stored = torch.from_numpy(decoded(codes))
        squares = stored.square().sum(1)
        asking = by_distance(torch.from_numpy(values), stored, squares, self.bits)
        return {
            name: by_distance(stored, stored, squares, self.bits),
            f"{name}{ASYMMETRIC}": Pair(asking.queries, None, self.bits),
        }


class RaBitQ:
    """One bit a principal component, and two numbers that make distances unbiased.

    Source: Gao and Long, SIGMOD 2024, as faiss has it: 64 bits more an item.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def train(self, vectors: Tensor) -> None:
        rotation = faiss.RandomRotationMatrix(self.bits, self.bits)
        rotation.init(int(torch.randint(2**31, ())))
        self.chain = [faiss.PCAMatrix(vectors.shape[1], self.bits), rotation]
        values = vectors.contiguous().numpy()
        for transform in self.chain:
            transform.train(values)
            values = transform.apply(values)
        self.index = faiss.IndexRaBitQ(self.bits, faiss.METRIC_L2)
        self.index.qb = 0  # queries keep their precision
        self.index.train(values)
        self.centre = values.mean(0)

    def pairs(self, name: str, vectors: Tensor) -> dict[str, Encoded]:
        """Compare signs with signs, and real queries by what faiss estimates."""
        values = vectors.contiguous().numpy()
        for transform in self.chain:
            values = transform.apply(values)
        stored, squares = self._estimator(values)
        bits = 8 * int(self.index.sa_code_size())
        asking = by_distance(torch.from_numpy(values), stored, squares, bits)
        return {
            name: binarize(torch.from_numpy(values - self.centre)),
            f"{name}{ASYMMETRIC}": asking,
        }

    def _estimator(self, values: np.ndarray) -> tuple[Tensor, Tensor]:
        """Read off what is estimated: |q|^2 - 2 q.s + a, from queries along the axes.

        They are far from all items: faiss raises negative estimates to 0.

        Returns:
            s (N, D) and a (N,).
        """
        self.index.reset()
        self.index.add(values)
        far = 8 * float(np.linalg.norm(values, axis=1).max()) + 1e-6
        axes = far * np.eye(self.bits, dtype=np.float32)
        found, items = self.index.search(np.concatenate([axes, -axes]), len(values))
        distances = np.empty_like(found)
        np.put_along_axis(distances, items, found, 1)
        there, opposite = distances[: self.bits], distances[self.bits :]
        stored = (opposite - there) / (4 * far)
        squares = (there + opposite).mean(0) / 2 - far**2
        return torch.from_numpy(stored.T.copy()), torch.from_numpy(squares)
