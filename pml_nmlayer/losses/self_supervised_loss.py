"""Two views of unlabelled items, for hashing losses too."""

from typing import Any

import torch
from pytorch_metric_learning.losses import SelfSupervisedLoss
from torch import Tensor

from ..runtime.options import check_flag
from .cross_batch_memory import PAIRWISE_LOSSES


class HashSelfSupervisedLoss(SelfSupervisedLoss):
    r"""Train on two views of each item, without labels, with hashing losses too.

    Formula:  L = loss(u ∪ v; i and j similar if they are views of one item); not
              `symmetric`: loss(u; v), views of the first kind against the second.

    Args:
        loss: a loss PML's SelfSupervisedLoss supports, a pairwise hashing loss of this
            package, or NMLoss around either with a head without `num_classes`.
        symmetric: both kinds of views are anchors.
        kwargs: none; PML's wrapper hands them on to torch's Module.

    Shapes:   embeddings (B, K), ref_emb (B, K): row i of both is item i.
    Returns:  what the loss returns.
    Raises:   ValueError: a loss of classes, a head that knows classes, or views of other
              shapes.
    Source:   pytorch-metric-learning, SelfSupervisedLoss.
              Differs: it knows hashing losses, and names what it refuses.

    Example:
        >>> from pml_nmlayer.losses import DPSHLoss
        >>> loss = HashSelfSupervisedLoss(DPSHLoss())
        >>> loss(torch.zeros(4, 8), torch.zeros(4, 8)).item()
        0.79...
    """

    def __init__(
        self, loss: torch.nn.Module, symmetric: bool = True, **kwargs: Any
    ) -> None:
        check_flag("symmetric", symmetric)
        head, inner = getattr(loss, "head", None), getattr(loss, "loss", None)
        if head is not None and isinstance(inner, torch.nn.Module):
            self.check_loss_support(type(inner).__name__)
            if getattr(head, "num_classes", None) is not None:
                raise ValueError(
                    "two views come without class ids, but the head has num_classes="
                    f"{head.num_classes}; build it without num_classes"
                )
        else:
            self.check_loss_support(type(loss).__name__)
        super().__init__(loss, symmetric, **kwargs)

    @staticmethod
    def supported_losses() -> list[str]:
        """Names of the losses that work on pairs of views."""
        return [*SelfSupervisedLoss.supported_losses(), *PAIRWISE_LOSSES, "NMLoss"]

    @classmethod
    def check_loss_support(cls, loss_name: str) -> None:
        """Refuse a loss that needs classes."""
        if loss_name not in cls.supported_losses():
            raise ValueError(
                f"HashSelfSupervisedLoss does not support {loss_name}; use one of "
                f"{', '.join(cls.supported_losses())}"
            )

    def forward(self, embeddings: Tensor, ref_emb: Tensor) -> Tensor:
        """Compute the loss of two views of one batch."""
        if embeddings.shape != ref_emb.shape:
            raise ValueError(
                "both views must have one row an item, got shapes "
                f"{tuple(embeddings.shape)} and {tuple(ref_emb.shape)}"
            )
        loss: Tensor = super().forward(embeddings, ref_emb)
        return loss
