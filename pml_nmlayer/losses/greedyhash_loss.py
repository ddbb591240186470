"""Cross-entropy on binary codes with a straight-through sign."""

from typing import Any

import torch
from pytorch_metric_learning.losses.mixins import WeightRegularizerMixin
from pytorch_metric_learning.utils import common_functions as c_f
from torch import Tensor
from torch.nn import functional as F

from ..codes.convention import sign_ste
from .base_class_hashing_loss import BaseClassHashingLoss
from .base_hashing_loss import LossDict, check_not_negative, per_anchor


class GreedyHashLoss(WeightRegularizerMixin, BaseClassHashingLoss):
    r"""Classify the binary code itself, and pull the real outputs to ±1 (GreedyHash).

    Formula:  L = mean over i of CE(W b_i, y_i / Σ_c y_ic)
                  + λ mean over i, k of ||u_ik| - 1|³,
              b = sign u with dL/du := dL/db,  W (C, K) learned, no bias.

    Args:
        num_classes: C. Class ids must lie in [0, C).
        embedding_size: code length K, in bits.
        quantization_weight: λ >= 0, no unit (α of the paper).
        kwargs: PML's `weight_init_func` (default: as torch.nn.Linear),
            `weight_regularizer`, `reducer`, `embedding_regularizer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign; labels (B,) or multi-hot (B, C).
    Returns:  scalar; first term in nats an item. An item of several classes has them as
              equally likely targets; one without any class has no first term.
    Raises:   ValueError: quantization_weight < 0, a distance (codes meet W in an inner
              product), ref_emb, labels or widths that do not fit.
    Source:   Su, Zhang, Han, Tian, NeurIPS 2018.
              Differs: no in the formula (λ multiplies a mean over items and bits, as in the
              paper); sign(0) is +1; targets of several classes are ours. W is trained by
              an optimizer over `loss.parameters()`.

    Example:
        >>> loss = GreedyHashLoss(num_classes=3, embedding_size=8)
        >>> _ = torch.nn.init.zeros_(loss.W)
        >>> loss(torch.ones(2, 8), torch.tensor([0, 2])).item()
        1.098...
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        *,
        quantization_weight: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, embedding_size=embedding_size, **kwargs)
        check_not_negative(quantization_weight=quantization_weight)
        self.quantization_weight = quantization_weight
        self.W = torch.nn.Parameter(torch.empty(num_classes, embedding_size))
        self.weight_init_func(self.W)
        self.add_to_recordable_attributes(
            list_of_names=["quantization_weight"],
            is_stat=False,
        )

    def class_losses(self, embeddings: Tensor, rows: Tensor) -> LossDict:
        """Return the two sub-losses, one value an item each."""
        targets = rows / rows.sum(1, keepdim=True).clamp(min=1)
        logits = self.get_logits(embeddings)
        quantization = (embeddings.abs() - 1).abs().pow(3).mean(1)
        loss_dict = {
            "loss": per_anchor(F.cross_entropy(logits, targets, reduction="none")),
            "quantization_loss": per_anchor(self.quantization_weight * quantization),
        }
        self.add_weight_regularization_to_loss_dict(loss_dict, self.W)
        return loss_dict

    def get_logits(self, embeddings: Tensor) -> Tensor:
        """Return W sign(u), (B, C): what the codes say about the classes."""
        weights = c_f.to_device(self.W, embeddings, dtype=embeddings.dtype)
        return sign_ste(embeddings) @ weights.T

    def get_default_weight_init_func(self) -> c_f.TorchInitWrapper:
        """Keep logits of order one for any K; PML's normal_ grows with √K."""
        return c_f.TorchInitWrapper(torch.nn.init.kaiming_uniform_, a=5**0.5)

    def _sub_loss_names(self) -> list[str]:
        return ["loss", "quantization_loss"]
