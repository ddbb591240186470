"""What the class-wise hashing losses share: classes as rows, and miners as weights."""

from typing import Any

from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu
from torch import Tensor

from ..labels.checks import class_rows
from ..runtime.options import check_count
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
    takes_shorter = False  # whether shorter embeddings than embedding_size will do

    def __init__(self, num_classes: int, embedding_size: int, **kwargs: Any) -> None:
        if "distance" in kwargs and not self.takes_distance:
            raise ValueError(f"{type(self).__name__} takes no distance: leave it out")
        super().__init__(**kwargs)
        check_count("num_classes", num_classes)
        check_count("embedding_size", embedding_size)
        self.num_classes: int = num_classes
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
        width, longest = embeddings.shape[1], self.embedding_size
        if width > longest or (width < longest and not self.takes_shorter):
            raise ValueError(
                f"embeddings must have embedding_size={longest} columns"
                f"{' or less' if self.takes_shorter else ''}, got {width}"
            )
        read = None if self._has_read_labels else True
        rows = class_rows(labels, self.num_classes, read).to(embeddings.dtype)
        loss_dict = self.class_losses(embeddings, rows)
        if indices_tuple is not None:
            weights = lmu.convert_to_weights(indices_tuple, labels, embeddings.dtype)
            for part in loss_dict.values():
                if part["reduction_type"] == "element":
                    part["losses"] = part["losses"] * weights
        return loss_dict
