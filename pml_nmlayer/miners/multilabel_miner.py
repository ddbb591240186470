"""Any PML miner that works on pairs, on multi-hot labels."""

from typing import Any

import torch
from pytorch_metric_learning.miners import BaseMiner
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu
from torch import Tensor

from ..labels.checks import check_labels
from ..labels.columns import check_not_a_column
from ..labels.label_sets import LabelSets, as_label_sets, check_miner


class MultiLabelMiner(BaseMiner):
    r"""Run a PML miner on multi-hot labels: similar means at least one shared label.

    Formula:  pairs of Y = positive {(i, j): Y_i ∩ Y_j ≠ ∅, i ≠ j}, negative all others
              with i ≠ j; the miner chooses among them, or all are returned.

    Args:
        miner: a PML miner that works on all pairs or triplets; None returns all pairs.
        kwargs: PML's `collect_stats`.

    Shapes:   embeddings (B, K), labels multi-hot (B, C) or class ids (B,), and likewise
              ref_emb (R, K), ref_labels; -> what the miner returns.
    Raises:   ValueError: a miner that goes through the classes one by one, or labels that
              do not fit. TypeError: another thing than a miner, or labels of strings.
    Source:   pytorch-metric-learning, BaseMiner.  Differs: PML refuses 2-D labels.

    PML's trainers take it as `tuple_miner`, and DistributedMinerWrapper takes it too. With
    efficient=True there, an item without labels meets its own copy as a negative: give
    such items a label of their own, or leave them out.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
        >>> anchors, positives, _, _ = MultiLabelMiner()(torch.randn(3, 8), rows)
        >>> list(zip(anchors.tolist(), positives.tolist()))
        [(0, 1), (1, 0)]
    """

    def __init__(self, miner: BaseMiner | None = None, **kwargs: Any) -> None:
        if miner is not None and not isinstance(miner, BaseMiner):
            raise TypeError(f"miner must be a miner of PML, got {miner!r}")
        check_miner(miner)
        super().__init__(**kwargs)
        self.miner = miner
        self._has_warned = False

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | LabelSets,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | LabelSets | None = None,
    ) -> tuple[Tensor, ...]:
        """Mine one batch; arguments as in every PML miner."""
        if not isinstance(labels, LabelSets):
            check_labels(labels, len(embeddings))
        if ref_emb is not None and not isinstance(ref_labels, LabelSets):
            if ref_labels is None:
                raise ValueError("ref_emb came without ref_labels")
            check_labels(ref_labels, len(ref_emb), "ref_labels")
        if not self._has_warned and torch.is_tensor(labels):
            self._has_warned = check_not_a_column(labels)
        return super().forward(
            embeddings, as_label_sets(labels), ref_emb, as_label_sets(ref_labels)
        )

    def mine(
        self, embeddings: Tensor, labels: Any, ref_emb: Tensor, ref_labels: Any
    ) -> tuple[Tensor, ...]:
        """Choose among the pairs."""
        if self.miner is None:
            return lmu.get_all_pairs_indices(labels, ref_labels)
        return self.miner(embeddings, labels, ref_emb, ref_labels)
