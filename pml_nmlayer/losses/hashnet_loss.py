"""HashNet: weighted pairwise likelihood of codes that harden during training."""

from typing import Any, Literal

import torch
from pytorch_metric_learning.distances import DotProductSimilarity
from torch import Tensor
from torch.nn import functional as F

from ..labels.relevance import jaccard
from ..runtime.options import check_count, check_flag, check_number
from .base_hashing_loss import (
    BaseHashingLoss,
    LossDict,
    check_grading,
    check_preset,
    check_takes_similarity,
    pair_masks,
    pair_weights,
    weighted_pairs,
)


class HashNetLoss(BaseHashingLoss):
    r"""Pairwise likelihood of h = tanh(β u), where β grows during training (HashNet).

    Formula:  L = sum over pairs of w_ij c_ij (softplus(θ_ij) - s_ij θ_ij),
              θ_ij = α ⟨h_i, h_j⟩ / K,  h = tanh(β u),  s_ij = 1 if i and j share a label,
              w_ij = 1 / (2 P+) for the P+ similar, 1 / (2 P-) for the P- dissimilar pairs,
              c_ij = 1, or |Y_i ∩ Y_j| / |Y_i ∪ Y_j| for similar pairs (jaccard),
              β = sqrt(1 + γ t'),  t' = the number t of training batches so far, this
              one included, rounded down to a multiple of `beta_interval`.

    Args:
        alpha: α > 0, the largest |θ|, whatever K.
        beta_growth: γ >= 0 a batch; 0 keeps β = 1.
        beta_interval: batches between two changes of β, >= 1.
        balanced: False takes the plain mean over the pairs with i != j instead of w.
        similarity: "shared" or "jaccard", which weighs similar pairs by how many of their
            labels they share. Class ids know no difference.
        preset: "paper" doubles w, since |S| / |S1| and |S| / |S0| under a mean give both
            kinds of pairs weight 1, and sets "jaccard", whatever `balanced` and
            `similarity` say.
        kwargs: PML's `distance` (a similarity, taken of h; default: unnormalised dot
            product), `reducer`, `embedding_regularizer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign and tanh; labels (B,) or multi-hot (B, C).
    Returns:  scalar, in nats a pair. Exactly 0 without any valid pair. t is the buffer
              `batches`: part of the state_dict, counted up by training-mode calls only.
    Raises:   ValueError: alpha <= 0, beta_growth < 0, beta_interval < 1, an unknown
              similarity or preset, a distance that is not a similarity, or "jaccard"
              without labels.
    Source:   Cao, Long, Wang, Yu, ICCV 2017, arXiv:1702.00758; β as in thuml/HashNet.
              Differs: all pairs of one batch, not of two; the paper's α = 10 / K is
              alpha=10; c_ij is 1 for dissimilar pairs, where the ratio would be 0.

    Example:
        >>> loss = HashNetLoss(preset="paper")
        >>> loss(torch.zeros(2, 8), torch.tensor([0, 0])).item()
        0.693...
        >>> loss.beta().item(), loss.batches.item()
        (1.0, 1)
    """

    batches: Tensor

    def __init__(
        self,
        *,
        alpha: float = 10.0,
        beta_growth: float = 0.005,
        beta_interval: int = 200,
        balanced: bool = True,
        similarity: Literal["shared", "jaccard"] = "shared",
        preset: Literal["paper"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_number("alpha", alpha, above=0)
        check_number("beta_growth", beta_growth, least=0)
        check_count("beta_interval", beta_interval)
        check_flag("balanced", balanced)
        check_grading(similarity)
        check_preset(preset)
        check_takes_similarity(self)
        paper = preset == "paper"
        self.alpha = alpha
        self.beta_growth = beta_growth
        self.beta_interval = beta_interval
        self.balanced = balanced or paper
        self.similarity = "jaccard" if paper else similarity
        self.weight_scale = 2.0 if paper else 1.0
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        self.add_to_recordable_attributes(
            list_of_names=["alpha", "beta_growth", "beta_interval"], is_stat=False
        )

    def beta(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return β, () on the device of the buffer."""
        passed = self.batches - self.batches % self.beta_interval
        return (1 + self.beta_growth * passed.to(dtype)).sqrt()

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor | None,
        indices_tuple: tuple[Tensor, ...] | None,
        ref_emb: Tensor,
        ref_labels: Tensor | None,
    ) -> LossDict:
        """Return the likelihood, one value an anchor; count the batch in training mode."""
        similar, dissimilar = pair_masks(
            embeddings, labels, indices_tuple, ref_emb, ref_labels
        )
        weights = self.weight_scale * pair_weights(similar, dissimilar, self.balanced)
        if self.similarity == "jaccard":
            if labels is None:
                raise ValueError("similarity='jaccard' needs labels, got None")
            grade = jaccard(labels, ref_labels).to(embeddings.dtype)
            weights = weights * (similar * grade + dissimilar)
        if self.training:
            self.batches += 1
        beta = self.beta(embeddings.dtype)
        h, ref_h = torch.tanh(beta * embeddings), torch.tanh(beta * ref_emb)
        theta = self.alpha / embeddings.shape[1] * self.distance(h, ref_h)
        return {"loss": weighted_pairs(F.softplus(theta) - similar * theta, weights)}

    def get_default_distance(self) -> DotProductSimilarity:
        """θ is a plain inner product: normalising would be another loss."""
        return DotProductSimilarity(normalize_embeddings=False)

    def _sub_loss_names(self) -> list[str]:
        return ["loss"]
