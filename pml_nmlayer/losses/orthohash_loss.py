"""Cross-entropy on the cosines between real outputs and fixed class centres."""

import math
from typing import Any, Literal

import torch
from pytorch_metric_learning.distances import CosineSimilarity
from torch import Tensor
from torch.nn import functional as F

from ..runtime.options import check_number
from .base_centre_loss import BaseCentreLoss
from .base_hashing_loss import LossDict, per_anchor

# Outputs shorter than this have no direction. The gradient of a direction grows as one over
# the length: without a bound an item whose outputs are all 0 has one of 10^12.
_SHORTEST = 0.01


class OrthoHashLoss(BaseCentreLoss):
    r"""Turn outputs towards the binary centre of their class, with a margin (OrthoHash).

    Formula:  L = mean over i of CE(z_i, y_i / Σ_c y_ic),  θ_ic = angle between u_i and o_c,
              (for ‖u_i‖ < 0.01: cos θ_ic = 100 ⟨u_i, o_c⟩ / ‖o_c‖, so that it is bounded),
              cosine:  z_ic = s (cos θ_ic - m y_ic),
              arc:     z_ic = s cos(θ_ic + m y_ic); where θ_ic + m y_ic > π, the decreasing
                       continuation s (cos θ_ic - m sin m) of ArcFace.

    Args:
        num_classes: C. Class ids must lie in [0, C).
        embedding_size: code length K, in bits; any. With `head` the longest one.
        margin_type: "cosine" or "arc".
        scale: s > 0, no unit.
        margin: m >= 0; no unit for cosine, radians (at most π/2) for arc.
        codebook: "auto", "hadamard", "maximin", or (C, K) centres of -1 and +1 of your
            own; see `pml_nmlayer.codebooks.make_codebook`.
        seed: of the codebook.
        head: whose codewords are the centres of codes it has merged; see `BaseCentreLoss`.
        kwargs: PML's `reducer`, `embedding_regularizer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign; labels (B,) or multi-hot (B, C).
    Returns:  scalar in nats an item. An item of several classes has them as equally likely
              targets, each with the margin; one without any class counts 0.
    Raises:   ValueError: an unknown margin_type, scale <= 0, margin out of range, a
              distance, a codebook or a head that does not fit, ref_emb, labels or
              widths that do not fit.
    Source:   Hoe et al., NeurIPS 2021, arXiv:2109.14449.
              Differs: the paper balances the bits by a batch norm on the code. That has
              running statistics and is needed when serving, so it belongs to the network:
              ask the head for it. The default codebook is Hadamard or maximin where the
              paper draws bits at random. The continuation of the arc is ours: without it
              an output opposite to its centre is pushed further away.

    Example:
        >>> loss = OrthoHashLoss(num_classes=2, embedding_size=8, scale=1, margin=0)
        >>> loss(loss.codebook, torch.tensor([0, 1])).item()  # softplus(-1)
        0.313...
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        *,
        margin_type: Literal["cosine", "arc"] = "cosine",
        scale: float = 8.0,
        margin: float = 0.2,
        codebook: str | Tensor = "auto",
        seed: int = 0,
        head: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, embedding_size, codebook, seed, head, **kwargs)
        if margin_type not in ("cosine", "arc"):
            raise ValueError(f"margin_type must be 'cosine' or 'arc', got {margin_type!r}")
        check_number("scale", scale, above=0)
        if margin_type == "arc":
            check_number("margin", margin, least=0, most=math.pi / 2, unit="radians")
        else:
            check_number("margin", margin, least=0)
        self.margin_type = margin_type
        self.scale = scale
        self.margin = margin
        self.add_to_recordable_attributes(
            list_of_names=["scale", "margin"],
            is_stat=False,
        )

    def class_losses(self, embeddings: Tensor, rows: Tensor) -> LossDict:
        """Return the cross-entropy, one value an item."""
        targets = rows / rows.sum(1, keepdim=True).clamp(min=1)
        logits = self.get_logits(embeddings)
        cosines = logits / self.scale
        if self.margin_type == "arc":
            logits = torch.where(rows > 0, self.scale * self._arc(cosines), logits)
        else:
            logits = logits - self.scale * self.margin * rows
        return {"loss": per_anchor(F.cross_entropy(logits, targets, reduction="none"))}

    def _arc(self, cosine: Tensor) -> Tensor:
        # cos(θ + m) without arccos; the bound keeps the root's slope finite at θ = 0 and π
        sine = (1 - cosine.square()).clamp(min=1e-6).sqrt()
        turned = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = cosine - self.margin * math.sin(self.margin)
        return torch.where(cosine >= -math.cos(self.margin), turned, beyond)

    def get_logits(self, embeddings: Tensor) -> Tensor:
        """Return s cos θ, (B, C), without margins."""
        directions = F.normalize(embeddings, dim=1, eps=_SHORTEST)
        return self.scale * directions @ F.normalize(self.centres(embeddings), dim=1).T

    def get_default_distance(self) -> CosineSimilarity:
        """Outputs are compared by their direction only."""
        return CosineSimilarity()
