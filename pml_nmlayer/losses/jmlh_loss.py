"""Cross-entropy on stochastic binary codes, kept close to fair coins."""

from typing import Any, Literal

import torch
from pytorch_metric_learning.losses.mixins import WeightRegularizerMixin
from pytorch_metric_learning.utils import common_functions as c_f
from torch import Tensor
from torch.nn import functional as F

from ..codes.convention import raw_sign
from .base_class_hashing_loss import BaseClassHashingLoss
from .base_hashing_loss import LossDict, check_not_negative, check_preset, per_anchor

_LOG_2 = 0.6931471805599453


class JMLHLoss(WeightRegularizerMixin, BaseClassHashingLoss):
    r"""Classify codes drawn bit by bit with probability σ(u) (JMLH).

    Formula:  L = mean over i of CE(W b_i + a, y_i / Σ_c y_ic)
                  + λ mean over i, k of KL(Bernoulli(σ(u_ik)) ‖ Bernoulli(½)),
              training:    b = +1 if ε <= σ(u) else -1, ε ~ uniform on [0, 1);
              evaluation:  b = sign u, which is the same with ε = ½;
              db/du := 2 σ(u) (1 - σ(u)), the slope of the mean of b;
              W (C, K) and a (C,) learned.

    Args:
        num_classes: C. Class ids must lie in [0, C).
        embedding_size: code length K, in bits.
        kl_weight: λ >= 0, no unit.
        preset: "paper" sums the KL over bits, K times the default, and leaves λ to you:
            public code takes λ = 0.1 with it.
        kwargs: PML's `weight_init_func` (default: as torch.nn.Linear),
            `weight_regularizer`, `reducer`, `embedding_regularizer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign; labels (B,) or multi-hot (B, C).
    Returns:  scalar; nats an item, and nats a bit times λ. An item of several classes has
              them as equally likely targets; one without any class has no first term.
              Random in training mode, from torch's default generator; deterministic after
              `loss.eval()`.
    Raises:   ValueError: kl_weight < 0, an unknown preset, a distance, ref_emb,
              labels or widths that do not fit.
    Source:   Shen et al., ICCV Workshops 2019 (JMLH).
              Differs: bits are -1 and +1 where the paper has 0 and 1. The same functions
              of the code are reached, with W = W_paper / 2 and a = a_paper + ½ Σ_k
              W_paper; and codes of our convention, sign(0) = +1, come out. The KL is a
              mean over bits, so λ does not depend on K.

    Example:
        >>> loss = JMLHLoss(num_classes=3, embedding_size=8, kl_weight=0).eval()
        >>> _ = torch.nn.init.zeros_(loss.W)
        >>> loss(torch.ones(2, 8), torch.tensor([0, 2])).item()
        1.098...
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        *,
        kl_weight: float = 1.0,
        preset: Literal["paper"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, embedding_size=embedding_size, **kwargs)
        check_not_negative(kl_weight=kl_weight)
        check_preset(preset)
        self.kl_weight = kl_weight
        self.sum_bits = preset == "paper"
        self.W = torch.nn.Parameter(torch.empty(num_classes, embedding_size))
        self.weight_init_func(self.W)
        self.bias = torch.nn.Parameter(torch.zeros(num_classes))
        self.add_to_recordable_attributes(list_of_names=["kl_weight"], is_stat=False)

    def class_losses(self, embeddings: Tensor, rows: Tensor) -> LossDict:
        """Return the two sub-losses, one value an item each."""
        targets = rows / rows.sum(1, keepdim=True).clamp(min=1)
        logits = self.get_logits(embeddings)
        # KL = log 2 - entropy; in |u| there is no logarithm of zero and no cancellation
        size = embeddings.abs()
        kl = _LOG_2 - F.softplus(-size) - size * (-size).sigmoid()
        kl = kl.sum(1) if self.sum_bits else kl.mean(1)
        loss_dict = {
            "loss": per_anchor(F.cross_entropy(logits, targets, reduction="none")),
            "kl_loss": per_anchor(self.kl_weight * kl),
        }
        self.add_weight_regularization_to_loss_dict(loss_dict, self.W)
        return loss_dict

    def get_logits(self, embeddings: Tensor) -> Tensor:
        """Return W b + a, (B, C); b is random in training mode."""
        weights = c_f.to_device(self.W, embeddings, dtype=embeddings.dtype)
        bias = c_f.to_device(self.bias, embeddings, dtype=embeddings.dtype)
        return self._codes(embeddings) @ weights.T + bias

    def _codes(self, u: Tensor) -> Tensor:
        probability = u.sigmoid()
        # sign u in evaluation, not σ(u) - ½: σ rounds to ½ for tiny negative u
        odds = probability - torch.rand_like(u) if self.training else u
        codes = raw_sign(odds.detach())
        mean = 2 * probability - 1
        return codes + (mean - mean.detach())

    def get_default_weight_init_func(self) -> c_f.TorchInitWrapper:
        """Keep logits of order one for any K; PML's normal_ grows with √K."""
        return c_f.TorchInitWrapper(torch.nn.init.kaiming_uniform_, a=5**0.5)

    def _sub_loss_names(self) -> list[str]:
        return ["loss", "kl_loss"]
