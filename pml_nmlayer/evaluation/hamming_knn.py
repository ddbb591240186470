"""Exact k nearest neighbours in bits, as PML's knn_func."""

import torch
from torch import Tensor

from ..codes.convention import binarize
from ..codes.outputs import check_outputs
from ..hamming.distance import hamming_distance
from ..runtime.options import check_count

_BLOCK_PAIRS = 2**22


class HammingKNN:
    r"""Find the k nearest codes; ties go to the lower index.

    Formula:  the k smallest of (d(q, r_n), n) in lexicographic order, d in bits.

    Embeddings are binarised first, so real outputs, normalised or not, may be passed.

    Shapes:   query (Q, K), reference (N, K) -> distances (Q, k) float32 (small integers),
              indices (Q, k) int64, on the device of the query.
    Raises:   ValueError: k < 1 or more neighbours than there are, embeddings of NaN or of
              which none is negative, or a reference that was never given.
    Source:   PML's FaissKNN and CustomKNN (same call).
              Differs: integer distances, a defined order of ties; FaissKNN cannot drive a
              binary index.

    Example:
        >>> knn = HammingKNN()
        >>> distances, indices = knn(torch.tensor([[1., 1.]]), 2, torch.tensor(
        ...     [[-1., 1.], [1., 1.], [1., -1.]]))
        >>> distances, indices
        (tensor([[0., 1.]]), tensor([[1, 0]]))
    """

    def __init__(self) -> None:
        self.reference: Tensor | None = None

    def __call__(
        self,
        query: Tensor,
        k: int,
        reference: Tensor | None = None,
        ref_includes_query: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Search; with `ref_includes_query` item i of the query leaves out reference i."""
        reference = self.reference if reference is None else binarize(reference)
        if reference is None:
            raise ValueError(
                "no reference codes: pass them, or call train() or add() first"
            )
        check_count("k", k, least=0)
        check_outputs(query, reference, name="embeddings")
        available = len(reference) - int(ref_includes_query)
        if not 1 <= k <= available:
            raise ValueError(f"k must lie in 1..{available} (reference codes), got {k}")
        codes = binarize(query)
        ids = torch.arange(len(reference), device=query.device)
        rows = max(_BLOCK_PAIRS // len(reference), 1)
        found = [
            _nearest(
                codes[i : i + rows], reference, ids, k, i if ref_includes_query else None
            )
            for i in range(0, len(codes), rows)
        ]
        if not found:
            return query.new_zeros(0, k), ids.new_zeros(0, k)
        keys = torch.cat(found)
        return (keys // len(reference)).float(), keys % len(reference)

    def train(self, embeddings: Tensor) -> None:
        """Start over with these reference embeddings (for PML's InferenceModel)."""
        self.reference = binarize(embeddings)

    def add(self, embeddings: Tensor) -> None:
        """Append reference embeddings."""
        codes = binarize(embeddings)
        known = self.reference
        self.reference = codes if known is None else torch.cat([known, codes])

    def save(self, filename: str) -> None:
        """Write the reference codes."""
        torch.save(self.reference, filename)

    def load(self, filename: str) -> None:
        """Read reference codes that `save` wrote."""
        self.reference = torch.load(filename, weights_only=True)


def _nearest(
    codes: Tensor, reference: Tensor, ids: Tensor, k: int, own: int | None
) -> Tensor:
    """Distance and id in one integer: its order is the order of the ranking."""
    keys = hamming_distance(codes, reference).long() * len(reference) + ids
    if own is not None:
        rows = torch.arange(len(codes), device=codes.device)
        keys[rows, own + rows] = torch.iinfo(torch.int64).max
    return keys.topk(k, dim=1, largest=False, sorted=True).values
