"""Multi-hot labels where PML expects class ids."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .checks import check_labels
from .relevance import shared_label

# These use labels for more than "which pairs agree": they walk through the classes.
_PER_CLASS_MINERS = ("DistanceWeightedMiner",)


class LabelSets:
    r"""Multi-hot rows that PML's miners and pair functions can take for class ids.

    PML asks labels one question, `labels.unsqueeze(1) == ref_labels.unsqueeze(0)`. Here
    the answer is [items i and j share a label, or are the same item], so that
    `get_all_pairs_indices`, `get_all_triplets_indices` and every miner built on them
    run as they are. Anything else that PML might ask is refused, never guessed.

    Args:
        rows: multi-hot labels (B, C).
        ids: (B,) numbers of the items, where two sets hold some items in common: equal
            numbers mean the same item. An item without labels equals itself only.

    Shapes:   stands for a tensor of shape (B,).
    Raises:   ValueError: used in a torch function; TypeError: compared with something
              else than label sets in PML's way.
    Source:   pytorch-metric-learning, loss_and_miner_utils.get_matches_and_diffs.
              Differs: agreement is not transitive.

    Example:
        >>> from pytorch_metric_learning.utils import loss_and_miner_utils as lmu
        >>> sets = LabelSets(torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 1]]))
        >>> anchors, positives, _, _ = lmu.get_all_pairs_indices(sets)
        >>> list(zip(anchors.tolist(), positives.tolist()))
        [(0, 1), (1, 0), (1, 2), (2, 1)]
    """

    ndim = 1
    dtype = torch.long  # of the indices that PML returns

    def __init__(self, rows: Tensor, ids: Tensor | None = None) -> None:
        self.rows = rows
        self.ids = ids
        self._dim: int | None = None

    @property
    def shape(self) -> torch.Size:
        """Shape of the class ids it stands for."""
        return self.rows.shape[:1]

    @property
    def device(self) -> torch.device:
        """Device of the rows."""
        return self.rows.device

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> LabelSets:
        """Move to a device."""
        ids = None if self.ids is None else self.ids.to(device)
        return LabelSets(self.rows.to(device), ids)

    def clone(self) -> LabelSets:
        """Copy; the copies stand for other items with the same labels."""
        return LabelSets(self.rows.clone())

    def unsqueeze(self, dim: int) -> LabelSets:
        """Take the side of the anchors (1) or of the references (0) in a comparison."""
        side = LabelSets(self.rows, self.ids)
        side._dim = dim
        return side

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        if not isinstance(other, LabelSets) or (self._dim, other._dim) != (1, 0):
            raise TypeError(
                "label sets compare as labels.unsqueeze(1) == ref_labels.unsqueeze(0) "
                f"only, got {type(other).__name__}"
            )
        agree = shared_label(self.rows, other.rows)
        if self.rows is other.rows:
            return agree.fill_diagonal_(True)
        if self.ids is not None and other.ids is not None:
            return agree | (self.ids[:, None] == other.ids[None, :])
        return agree

    @classmethod
    def __torch_function__(cls, func: Any, *_: Any) -> Any:
        """Refuse: a torch function would need one class id an item."""
        raise ValueError(
            f"torch.{func.__name__} needs class ids (B,); multi-hot rows (B, C) only tell "
            "which pairs share a label. Use a loss or miner that works on pairs"
        )


def as_label_sets(labels: Any) -> Any:
    """Let multi-hot rows (B, C) pass for class ids; leave anything else as it is.

    Args:
        labels: class ids (B,), multi-hot rows (B, C), label sets, or None.

    Raises:
        ValueError: rows with other values than 0 and 1, or of one column.
    """
    if not (torch.is_tensor(labels) and labels.ndim == 2):
        return labels
    check_labels(labels, len(labels), read=True)
    return LabelSets(labels)


def check_miner(miner: torch.nn.Module | None) -> None:
    """Refuse a miner that cannot work from pairs that share a label.

    Args:
        miner: a PML miner, or None.

    Raises:
        ValueError: the miner goes through the classes one by one.
    """
    for base in type(miner).__mro__:
        if base.__name__ in _PER_CLASS_MINERS:
            raise ValueError(
                f"{type(miner).__name__} samples class by class, which multi-hot labels "
                "do not allow; use MultiSimilarityMiner, BatchHardMiner, "
                "TripletMarginMiner or another miner that works on all pairs or triplets"
            )
