"""Hamming similarity as a PML distance, with a gradient for training."""

from typing import Any, Literal

import torch
from pytorch_metric_learning.distances import BaseDistance
from torch import Tensor

from ..codes.convention import binarize, sign_ste


class HammingSimilarity(BaseDistance):
    r"""Count the bits on which two codes agree.

    Formula:  bits:    S_ij = K - d_H(b_i, b_j) = ½ (K + ⟨b_i, b_j⟩)      in 0 .. K
              cosine:  S_ij = 1 - 2 d_H(b_i, b_j) / K = ⟨b_i, b_j⟩ / K    in [-1, 1]
              b = sign u in eval mode. While training, either b = sign u with
              db/du := 1 ("ste"), or b = tanh u ("tanh"), soft values in between.

    Args:
        unit: "bits", or "cosine", for which PML's defaults for CosineSimilarity hold.
        surrogate: where the gradient comes from while training, "ste" or "tanh".
        kwargs: PML's `power`, `collect_stats`.

    Shapes:   embeddings (Q, K), (R, K) real, before sign -> (Q, R), at least float32.
    Returns:  similarity, larger is closer (`is_inverted`). Exact integers in bits and
              equal floats for equal distances in cosine, except for "tanh" in training.
    Raises:   ValueError: an unknown unit or surrogate, embeddings that are not 2-D, or
              NaN in eval mode. TypeError: embeddings that are no floats.
    Source:   straight-through: Bengio et al. 2013, arXiv:1308.3432.  Differs: no.

    PML losses and their margins:
        Cosine: the values PML documents for CosineSimilarity hold, such as
            `ContrastiveLoss(pos_margin=1, neg_margin=0)`. So do the plain defaults of
            MultiSimilarityLoss, NTXentLoss, SupConLoss, IntraPairVarianceLoss.
        Bits: margins are bits. `ContrastiveLoss(pos_margin=K, neg_margin=K/2)`,
            `TripletMarginLoss(margin=2)`, `MarginLoss(margin=2, beta=3K/4)`,
            `LiftedStructureLoss(pos_margin=K, neg_margin=K/2)`,
            `NCALoss(softmax_scale=2/K)`. Temperatures grow with K: `NTXentLoss(K/10)`.
        Not with: RankedListLoss, which takes every matrix for distances and would drive
            classes apart. Nor with HistogramLoss, whose last bin ends below the similarity
            1 of two equal codes. Before losses locked to another distance, such as
            CircleLoss, put `sign_ste`.

    Example:
        >>> codes = torch.tensor([[1.0, 1, -1, 1], [1, -1, -1, 1]])
        >>> HammingSimilarity()(codes)
        tensor([[4., 3.],
                [3., 4.]])
    """

    def __init__(
        self,
        unit: Literal["bits", "cosine"] = "bits",
        *,
        surrogate: Literal["ste", "tanh"] = "ste",
        **kwargs: Any,
    ) -> None:
        if unit not in ("bits", "cosine"):
            raise ValueError(f"unit must be 'bits' or 'cosine', got {unit!r}")
        if surrogate not in ("ste", "tanh"):
            raise ValueError(f"surrogate must be 'ste' or 'tanh', got {surrogate!r}")
        super().__init__(normalize_embeddings=False, is_inverted=True, **kwargs)
        self.unit = unit
        self.surrogate = surrogate

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """Compare every query with every reference, (Q, R)."""
        # half precision holds integers up to 256 (bfloat16) or 2,048 only
        with torch.autocast(query_emb.device.type, enabled=False):
            inner = self._codes(query_emb) @ self._codes(ref_emb).T
        return self._scale(inner, query_emb.shape[1])

    def pairwise_distance(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """Compare row i with row i, (Q,)."""
        inner = (self._codes(query_emb) * self._codes(ref_emb)).sum(1)
        return self._scale(inner, query_emb.shape[1])

    def _codes(self, u: Tensor) -> Tensor:
        if not u.is_floating_point():
            raise TypeError(
                f"embeddings must be real outputs before sign, floats; got {u.dtype}"
            )
        if u.dtype in (torch.float16, torch.bfloat16):
            u = u.float()
        if not self.training:
            return binarize(u)
        return sign_ste(u) if self.surrogate == "ste" else u.tanh()

    def _scale(self, inner: Tensor, bits: int) -> Tensor:
        return (bits + inner) / 2 if self.unit == "bits" else inner / bits
