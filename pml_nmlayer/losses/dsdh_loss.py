"""Pairwise likelihood, and a linear classifier on the binary codes."""

from typing import Any, Literal

import torch
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses.mixins import WeightRegularizerMixin
from pytorch_metric_learning.utils import common_functions as c_f
from torch import Tensor
from torch.nn import functional as F

from ..classes.objectives import label_map
from ..codes.convention import raw_sign, sign_ste
from ..runtime.options import check_flag
from .base_class_hashing_loss import BaseClassHashingLoss
from .base_hashing_loss import (
    LossDict,
    check_not_negative,
    check_preset,
    check_takes_similarity,
    pair_masks,
    pair_weights,
    per_anchor,
    weighted_pairs,
)


class DSDHLoss(WeightRegularizerMixin, BaseClassHashingLoss):
    r"""Codes that agree within pairs and from which classes can be read linearly (DSDH).

    Formula:  L = sum over pairs of w_ij (softplus(θ_ij) - s_ij θ_ij)
                  + μ mean over i of ‖y_i - W b_i‖² + ν ‖W‖²
                  + λ mean over i, k of (u_ik - sign u_ik)²,
              θ_ij = ½⟨u_i, u_j⟩,  s_ij = 1 if i and j share a label,
              b = sign u with dL/du := dL/db,  y_i = multi-hot row,  W (C, K) learned, or
              solved for on the batch, which makes L smallest in W (`closed_form`),
              w = class-balanced (default) or plain mean over the pairs with i != j.

    Args:
        num_classes: C. Class ids must lie in [0, C).
        embedding_size: code length K, in bits; the longest one with `closed_form`, which
            takes shorter codes, too, as a head puts out that is merged (without lift).
        class_weight: μ >= 0, no unit.
        ridge_weight: ν >= 0. With it W shrinks by about μ / (μ + ν), for any K and C.
        quantization_weight: λ >= 0, no unit.
        balanced: similar and dissimilar pairs weigh one half each.
        preset: "paper" takes the plain mean over off-diagonal pairs, whatever
            `balanced` says.
        closed_form: solve for W on each batch. There is nothing to train then, and no
            learning rate of W, which would have to fall with K. Needs μ, ν > 0.
        kwargs: PML's `distance` (a similarity; default: unnormalised dot product),
            `weight_init_func` (default: W starts at zero), `weight_regularizer`, `reducer`,
            `embedding_regularizer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign; labels (B,) or multi-hot (B, C).
    Returns:  scalar; first term in nats a pair, and 0 without any pair.
    Raises:   ValueError: a negative weight, an unknown preset, a distance that is not a
              similarity, ref_emb, labels or widths that do not fit. With `closed_form`, a
              weight of 0, or options of a W that is trained.
    Source:   Li, Sun, He, Tan, NeurIPS 2017, arXiv:1705.10999.
              Differs: the paper alternates a closed form for W with discrete coordinate
              descent over the stored codes of the whole training set. Here W is trained by
              an optimizer over `loss.parameters()`, or solved for on a batch. The class
              term reaches the network through the straight-through sign, so there is
              nothing to store. b is sign u also in the last term. Means where the paper
              sums over N items and N² pairs: μ = μ_paper / N, ν = ν_paper / N²,
              λ = K η_paper / N.

    Example:
        >>> loss = DSDHLoss(3, 8, class_weight=1, quantization_weight=0)
        >>> loss(torch.zeros(2, 8), torch.tensor([0, 2])).item()  # ½ log 2 + 1
        1.346...
    """

    takes_distance = True

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        *,
        class_weight: float = 3.0,
        ridge_weight: float = 0.01,
        quantization_weight: float = 0.1,
        balanced: bool = True,
        preset: Literal["paper"] | None = None,
        closed_form: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, embedding_size=embedding_size, **kwargs)
        self.class_weight = class_weight
        self.ridge_weight = ridge_weight
        self.quantization_weight = quantization_weight
        weights = ["class_weight", "ridge_weight", "quantization_weight"]
        check_not_negative(**{name: getattr(self, name) for name in weights})
        check_flag("balanced", balanced)
        check_flag("closed_form", closed_form)
        check_preset(preset)
        check_takes_similarity(self)
        self.balanced = balanced and preset is None
        self.closed_form = self.takes_shorter = closed_form
        if closed_form:
            of_w = kwargs.keys() & {"weight_init_func", "weight_regularizer"}
            if of_w or min(class_weight, ridge_weight) == 0:
                raise ValueError(
                    "closed_form needs class_weight > 0 and ridge_weight > 0, and has no W "
                    f"that is trained; got class_weight={class_weight}, ridge_weight="
                    f"{ridge_weight}, and {sorted(of_w) or 'nothing else'}"
                )
        else:
            self.W = torch.nn.Parameter(torch.empty(num_classes, embedding_size))
            self.weight_init_func(self.W)
        self.add_to_recordable_attributes(list_of_names=weights, is_stat=False)

    def class_losses(self, embeddings: Tensor, rows: Tensor) -> LossDict:
        """Return the four sub-losses; all but the ridge as one value an item."""
        similar, dissimilar = pair_masks(embeddings, rows, None, embeddings, rows)
        weights = pair_weights(similar, dissimilar, self.balanced)
        theta = 0.5 * self.distance(embeddings, embeddings)
        nll = F.softplus(theta) - similar * theta
        if self.closed_form:
            ridge = self.ridge_weight / self.class_weight
            weights_of_bits = label_map(raw_sign(embeddings), rows, ridge)
        else:
            weights_of_bits = c_f.to_device(self.W, embeddings, dtype=embeddings.dtype)
        residual = rows - sign_ste(embeddings) @ weights_of_bits.T
        quantization = (embeddings - raw_sign(embeddings.detach())).square().mean(1)
        loss_dict: LossDict = {
            "loss": weighted_pairs(nll, weights),
            "class_loss": per_anchor(self.class_weight * residual.square().sum(1)),
            "ridge_loss": {
                "losses": self.ridge_weight * weights_of_bits.square().sum(),
                "indices": None,
                "reduction_type": "already_reduced",
            },
            "quantization_loss": per_anchor(self.quantization_weight * quantization),
        }
        if not self.closed_form:
            self.add_weight_regularization_to_loss_dict(loss_dict, self.W)
        return loss_dict

    def get_logits(self, embeddings: Tensor) -> Tensor:
        """Return W sign(u), (B, C): the linear estimate of the multi-hot row.

        Raises:
            ValueError: with `closed_form` there is no W without labels.
        """
        if self.closed_form:
            raise ValueError("with closed_form, W is that of a batch with labels")
        weights = c_f.to_device(self.W, embeddings, dtype=embeddings.dtype)
        return sign_ste(embeddings) @ weights.T

    def get_default_distance(self) -> DotProductSimilarity:
        """θ is a plain inner product: normalising would be another loss."""
        return DotProductSimilarity(normalize_embeddings=False)

    def get_default_weight_init_func(self) -> c_f.TorchInitWrapper:
        """Start W at zero: a random W would pull the codes to random targets."""
        return c_f.TorchInitWrapper(torch.nn.init.zeros_)

    def _sub_loss_names(self) -> list[str]:
        return ["loss", "class_loss", "ridge_loss", "quantization_loss"]
