"""Any PML loss that works on given pairs, on multi-hot labels."""

import torch
from pytorch_metric_learning.losses import BaseMetricLossFunction
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu
from torch import Tensor

from ..labels.checks import check_label_pair, check_labels
from ..labels.columns import check_not_a_column
from ..labels.label_sets import LabelSets, check_miner
from .base_hashing_loss import BaseHashingLoss
from .given_pairs import (
    READS_PAIRS_ONLY_WITH_LABELS,
    TAKES_REFERENCES_FOR_ITEMS,
    TRIPLETS_ONLY,
    check_loss,
    is_one_of,
)

Indices = tuple[Tensor, ...]


class MultiLabelLoss(BaseMetricLossFunction):
    r"""Run a PML loss on multi-hot labels: similar means at least one shared label.

    Formula:  L(u, Y) = loss(u, pairs of Y),
              positive pairs {(i, j): Y_i ∩ Y_j ≠ ∅, i ≠ j}, negative pairs all others with
              i ≠ j; TripletMarginLoss, MarginLoss and HistogramLoss get the triplets
              (i, j, k) with (i, j) positive and (i, k) negative.

    Args:
        loss: any PML loss that works on a given `indices_tuple`, with its own distance,
            reducer and regularizer. Or a hashing loss of this package, which gets the
            multi-hot labels as they are.
        miner: a PML miner; chooses among those pairs or triplets.

    Shapes:   embeddings (B, K); labels multi-hot (B, C), or class ids (B,), which go to
              the loss unchanged; ref_emb (R, K) with ref_labels (R, C).
    Returns:  what the loss returns. Without a valid pair: its zero, with a gradient.
              An item without labels is negative to all others.
    Raises:   ValueError: a loss or miner that needs one class id an item, weights a
              class, another wrapper as loss. Rows that are not 0 and 1; a miner and
              an indices_tuple at once.
    Source:   the indices_tuple convention of pytorch-metric-learning.
              Differs: PML refuses 2-D labels, even when the pairs are given.

    Example:
        >>> from pytorch_metric_learning.losses import ContrastiveLoss
        >>> rows = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
        >>> MultiLabelLoss(ContrastiveLoss())(torch.eye(3), rows).item()
        1.414...
    """

    def __init__(
        self, loss: BaseMetricLossFunction, miner: torch.nn.Module | None = None
    ) -> None:
        check_loss(loss)
        check_miner(miner)
        super().__init__(distance=loss.distance, collect_stats=loss.collect_stats)
        self.loss = loss
        self.miner = miner
        self._has_warned = False

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Indices | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss of one batch; arguments as in every PML loss."""
        if labels is not None and not torch.is_tensor(labels):
            check_labels(labels, len(embeddings))
        if self.miner is not None and indices_tuple is not None:
            raise ValueError(
                "got an indices_tuple, but this MultiLabelLoss has a miner of its own; "
                "leave one of them out"
            )
        if labels is None or labels.ndim == 1:
            self._check_ids(embeddings, labels)
            if self.miner is not None and labels is not None:
                indices_tuple = self.miner(embeddings, labels, ref_emb, ref_labels)
            return self.loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        labels, ref_labels = _check_rows(embeddings, labels, ref_emb, ref_labels)
        if self.miner is not None:
            indices_tuple = self.miner(embeddings, *_sets(labels, ref_emb, ref_labels))
        if isinstance(self.loss, BaseHashingLoss):
            return self.loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        if indices_tuple is None:
            anchors, _, others = _sets(labels, ref_emb, ref_labels)
            indices_tuple = self._all_tuples(anchors, others)
        return self._call_with_pairs(embeddings, indices_tuple, ref_emb)

    def _check_ids(self, embeddings: Tensor, labels: Tensor | None) -> None:
        if labels is None:
            return
        check_labels(labels, len(embeddings))
        if not self._has_warned:
            self._has_warned = check_not_a_column(labels)

    def _all_tuples(self, labels: LabelSets, ref_labels: LabelSets | None) -> Indices:
        if not is_one_of(self.loss, TRIPLETS_ONLY):
            return lmu.get_all_pairs_indices(labels, ref_labels)
        # from pairs PML would build the same triplets, over P x N instead of B x R x R
        count = getattr(self.loss, "triplets_per_anchor", "all")
        if count == "all":
            return lmu.get_all_triplets_indices(labels, ref_labels)
        return _random_triplets(labels, ref_labels, int(count))

    def _call_with_pairs(
        self, embeddings: Tensor, indices_tuple: Indices, ref_emb: Tensor | None
    ) -> Tensor:
        if ref_emb is not None and is_one_of(self.loss, TAKES_REFERENCES_FOR_ITEMS):
            raise ValueError(
                f"{type(self.loss).__name__} looks references up among the embeddings; "
                "call it without ref_emb"
            )
        unread = None
        if is_one_of(self.loss, READS_PAIRS_ONLY_WITH_LABELS):
            unread = torch.zeros(len(embeddings), device=embeddings.device)
        return self.loss(embeddings, unread, indices_tuple, ref_emb)


def _check_rows(
    embeddings: Tensor, labels: Tensor, ref_emb: Tensor | None, ref_labels: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    check_labels(labels, len(embeddings))
    labels = labels.to(embeddings.device)
    if ref_emb is None:
        check_label_pair(labels, labels)
        return labels, None
    if ref_labels is None:
        raise ValueError("ref_emb came without ref_labels; pass multi-hot rows (R, C)")
    check_labels(ref_labels, len(ref_emb), "ref_labels")
    ref_labels = ref_labels.to(embeddings.device)
    check_label_pair(labels, ref_labels)
    return labels, ref_labels


def _sets(
    labels: Tensor, ref_emb: Tensor | None, ref_labels: Tensor | None
) -> tuple[LabelSets, Tensor | None, LabelSets | None]:
    """Return the arguments of a miner that follow the embeddings."""
    ref_sets = None if ref_labels is None else LabelSets(ref_labels)
    return LabelSets(labels), ref_emb, ref_sets


def _random_triplets(
    labels: LabelSets, ref_labels: LabelSets | None, count: int
) -> Indices:
    """Draw `count` triplets an anchor, as PML's get_random_triplet_indices does."""
    matches, diffs = lmu.get_matches_and_diffs(labels, ref_labels)
    anchors = (matches.any(1) & diffs.any(1)).nonzero().squeeze(1)
    if len(anchors) == 0:
        return anchors, anchors, anchors
    positives = torch.multinomial(matches[anchors].float(), count, replacement=True)
    negatives = torch.multinomial(diffs[anchors].float(), count, replacement=True)
    return anchors.repeat_interleave(count), positives.flatten(), negatives.flatten()
