"""What the class-wise hashing losses share: classes as rows, and miners as weights."""

from typing import Any

import torch
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu
from torch import Tensor

from .base_hashing_loss import BaseHashingLoss, LossDict


class BaseClassHashingLoss(BaseHashingLoss):
    r"""A hashing loss that compares each item with its classes, not with other items.

    Subclasses implement `class_losses`, which returns sub-losses of one value an item.

    Args:
        num_classes: C. Class ids must lie in [0, C).
        embedding_size: code length K, in bits.
        kwargs: PML's `reducer`, `embedding_regularizer`, `collect_stats`, and `distance` in
            the losses that have one.

    Shapes:   embeddings (B, K) real, before sign; labels (B,) or multi-hot (B, C).
    Returns:  a scalar. With the pairs or triplets of a miner, an item weighs as often as it
              occurs in them, divided by the largest such number, as in PML's
              classification losses.
    Raises:   ValueError: ref_emb, no labels, labels or widths that do not fit, a distance
              in a loss that has none.
    Source:   pytorch-metric-learning, NormalizedSoftmaxLoss.  Differs: multi-hot labels.
    """

    takes_distance = False

    def __init__(self, num_classes: int, embedding_size: int, **kwargs: Any) -> None:
        if "distance" in kwargs and not self.takes_distance:
            raise ValueError(f"{type(self).__name__} takes no distance: leave it out")
        super().__init__(**kwargs)
        if num_classes < 1 or embedding_size < 1:
            raise ValueError(
                "num_classes and embedding_size must be at least 1, got "
                f"{num_classes} and {embedding_size}"
            )
        self.num_classes = num_classes
        self.embedding_size = embedding_size
        self.add_to_recordable_attributes(
            list_of_names=["num_classes", "embedding_size"], is_stat=False
        )

    def class_losses(self, embeddings: Tensor, rows: Tensor) -> LossDict:
        """Return the sub-losses of embeddings (B, K) and multi-hot rows (B, C)."""
        raise NotImplementedError

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor | None,
        indices_tuple: tuple[Tensor, ...] | None,
        ref_emb: Tensor,
        ref_labels: Tensor | None,
    ) -> LossDict:
        """Check the batch, ask the subclass, and weigh the items that a miner chose."""
        c_f.labels_required(labels)
        c_f.ref_not_supported(embeddings, labels, ref_emb, ref_labels)
        assert labels is not None
        rows = class_rows(labels, self.num_classes, embeddings, self.embedding_size)
        loss_dict = self.class_losses(embeddings, rows)
        if indices_tuple is not None:
            weights = lmu.convert_to_weights(indices_tuple, labels, embeddings.dtype)
            for part in loss_dict.values():
                if part["reduction_type"] == "element":
                    part["losses"] = part["losses"] * weights
        return loss_dict


def class_rows(labels: Tensor, num_classes: int, embeddings: Tensor, bits: int) -> Tensor:
    r"""Write the classes of each item as a row of 0 and 1, after checking the batch.

    Args:
        labels: class ids (B,) from 0 to C - 1, or multi-hot rows (B, C).
        num_classes: C.
        embeddings: give the dtype and the device.
        bits: code length K that `embeddings` must have.

    Shapes:   labels (B,) or (B, C), embeddings (B, K) -> (B, C), dtype of `embeddings`.
    Returns:  multi-hot rows.
    Raises:   ValueError: embeddings of another width than K, multi-hot rows of another
              width than C; and, where labels are on the CPU, ids outside of [0, C) or rows
              with other values than 0 and 1. On a GPU values are not read, which would
              stall every step: there a wrong id trips the assertion of the index kernel.
    Source:   convention of this package.  Differs: no.

    Example:
        >>> import torch
        >>> class_rows(torch.tensor([1, 0]), 3, torch.zeros(2, 8), 8)
        tensor([[0., 1., 0.],
                [1., 0., 0.]])
    """
    if embeddings.shape[1] != bits:
        raise ValueError(
            f"embeddings must have embedding_size={bits} columns, got {embeddings.shape[1]}"
        )
    readable = labels.device.type == "cpu" and not torch.compiler.is_compiling()
    if labels.ndim == 2:
        if labels.shape[1] != num_classes:
            raise ValueError(
                f"multi-hot labels must have num_classes={num_classes} columns, "
                f"got {labels.shape[1]}"
            )
        if readable and not bool(((labels == 0) | (labels == 1)).all()):
            raise ValueError("multi-hot labels must hold 0 and 1 only")
        return labels.to(embeddings.dtype)
    if labels.is_floating_point():
        raise ValueError(f"class ids must be integers, got {labels.dtype}")
    if readable and not bool(((labels >= 0) & (labels < num_classes)).all()):
        raise ValueError(
            f"class ids must lie in [0, num_classes={num_classes}), got "
            f"{int(labels.min())} to {int(labels.max())}"
        )
    rows = embeddings.new_zeros(len(labels), num_classes)
    return rows.scatter_(1, labels.long()[:, None], 1)
