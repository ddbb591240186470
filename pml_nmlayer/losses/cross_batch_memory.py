"""Cross-batch memory for hashing losses and multi-hot labels, with its state saved."""

from typing import Any

import torch
from pytorch_metric_learning.losses import BaseMetricLossFunction, CrossBatchMemory
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu
from torch import Tensor

from ..labels.checks import check_labels
from ..labels.columns import check_not_a_column
from ..labels.label_sets import LabelSets, check_miner
from ..runtime.options import check_count
from .multilabel_loss import Indices, MultiLabelLoss

PAIRWISE_LOSSES = [
    *("DFHLoss", "DHNLoss", "DPSHLoss", "DSHLoss", "DTSHLoss", "HashNetLoss"),
    *("MIHashLoss", "TieAwareAPLoss"),
]


class HashCrossBatchMemory(CrossBatchMemory):
    r"""Compare a batch with the last M embeddings, of hashing losses too.

    Formula:  L = loss(batch; memory), where the memory already holds the batch itself;
              an item is never paired with its own copy.

    Args:
        loss: a loss PML's CrossBatchMemory supports, a pairwise hashing loss of this
            package, or MultiLabelLoss around one of PML's.
        embedding_size: K; it cannot change, so use it with a constant code length.
        memory_size: M, number of embeddings kept, at least the batch size.
        miner: a PML miner, run on the batch against the memory.
            A miner that goes through classes, such as DistanceWeightedMiner, needs class
            ids.
        num_classes: C of multi-hot labels (B, C); None for class ids (B,).
        kwargs: PML's `collect_stats`.

    Shapes:   embeddings (B, K); labels (B,) or, with num_classes, (B, C);
              indices_tuple: pairs or triplets within the batch, added to those with the
              memory; enqueue_mask (B,) bool: these items go into the memory, the others
              are compared with it.
    Returns:  what the loss returns.
    Raises:   ValueError: a loss or miner that cannot work this way, labels of another
              kind than num_classes says, more new items than memory_size.
    Source:   Wang et al., CVPR 2020, arXiv:1912.06798; pytorch-metric-learning,
              CrossBatchMemory.
              Differs: from PML, in that `queue_idx` and `has_been_filled` are buffers, so
              a resumed run goes on where it was. Pairs within the batch are looked up at
              its place in the memory, not in the first rows. A batch of one item is not
              paired with itself. Nothing enqueued leaves the memory as it is.

    Example:
        >>> from pml_nmlayer.losses import DPSHLoss
        >>> memory = HashCrossBatchMemory(DPSHLoss(), embedding_size=8, memory_size=64)
        >>> loss = memory(torch.randn(4, 8), torch.tensor([0, 0, 1, 1]))
        >>> int(memory.queue_idx)
        4
    """

    queue_idx: Tensor
    has_been_filled: Tensor

    def __init__(
        self,
        loss: BaseMetricLossFunction,
        embedding_size: int,
        memory_size: int = 1024,
        miner: torch.nn.Module | None = None,
        *,
        num_classes: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_count("embedding_size", embedding_size)
        check_count("memory_size", memory_size)
        check_count("num_classes", num_classes, least=2, none="class ids")
        # PML's __init__ calls reset_queue, which needs it; plain values may come before
        self.num_classes = num_classes
        super().__init__(loss, embedding_size, memory_size, miner, **kwargs)
        if num_classes is not None:
            check_miner(miner)
        self._has_read_labels = self._has_warned = False
        if isinstance(loss, MultiLabelLoss):
            self.check_loss_support(type(loss.loss).__name__)
            if loss.miner is not None:
                raise ValueError(
                    "the miner must see the memory: HashCrossBatchMemory("
                    "MultiLabelLoss(loss), ..., miner=miner)"
                )
        elif num_classes is not None and type(loss).__name__ not in PAIRWISE_LOSSES:
            raise ValueError(
                f"{type(loss).__name__} takes class ids only; for multi-hot labels use "
                f"HashCrossBatchMemory(MultiLabelLoss({type(loss).__name__}(...)), ...)"
            )

    @staticmethod
    def supported_losses() -> list[str]:
        """Names of the losses that work against a memory."""
        ours = [*PAIRWISE_LOSSES, MultiLabelLoss.__name__]
        return [*CrossBatchMemory.supported_losses(), *ours]

    @classmethod
    def check_loss_support(cls, loss_name: str) -> None:
        """Refuse a loss that does not take pairs between a batch and a memory."""
        if loss_name not in cls.supported_losses():
            raise ValueError(
                f"HashCrossBatchMemory does not support {loss_name}; use one of "
                f"{', '.join(cls.supported_losses())}"
            )

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Indices | None = None,
        enqueue_mask: Tensor | None = None,
    ) -> Tensor:
        """Enqueue a batch and compute its loss against the memory."""
        check_labels(labels, len(embeddings), read=None if self._has_read_labels else True)
        row = () if self.num_classes is None else (self.num_classes,)
        if labels.ndim != 1 + len(row) or labels.shape[1:] != row:
            kind = "class ids (B,)" if not row else f"multi-hot rows (B, {row[0]})"
            raise ValueError(
                f"with num_classes={self.num_classes} labels must be {kind}, got shape "
                f"{tuple(labels.shape)}"
            )
        if not self._has_warned:
            self._has_warned = check_not_a_column(labels)
        self._check_embeddings(embeddings)
        new = len(embeddings) if enqueue_mask is None else int(enqueue_mask.sum())
        if new > self.memory_size:
            raise ValueError(
                f"cannot enqueue {new} items into a memory of {self.memory_size}; raise "
                "memory_size"
            )
        loss: Tensor = super().forward(embeddings, labels, indices_tuple, enqueue_mask)
        self._has_read_labels = True
        return loss

    def _check_embeddings(self, embeddings: Tensor) -> None:
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embedding_size:
            raise ValueError(
                f"embeddings must have embedding_size={self.embedding_size} columns, got "
                f"shape {tuple(embeddings.shape)}; outputs of a head that merges keep "
                "their width with constant_width=True, which NMLoss sets by itself"
            )

    def reset_queue(self) -> None:
        """Empty the memory."""
        row = () if self.num_classes is None else (self.num_classes,)
        memory = torch.zeros(self.memory_size, self.embedding_size)
        self.register_buffer("embedding_memory", memory)
        labels = torch.zeros(self.memory_size, *row, dtype=torch.long)
        self.register_buffer("label_memory", labels)
        self.register_buffer("has_been_filled", torch.tensor(False))
        self.register_buffer("queue_idx", torch.tensor(0))

    def add_to_memory(self, embeddings: Tensor, labels: Tensor, batch_size: int) -> None:
        """Overwrite the oldest rows with new items."""
        start = self.queue_idx.to(embeddings.device)
        steps = torch.arange(batch_size, device=embeddings.device)
        self.curr_batch_idx = (start + steps) % self.memory_size
        # under autocast the batch may be of half precision while the memory is not
        new = embeddings.detach().to(self.embedding_memory.dtype)
        self.embedding_memory[self.curr_batch_idx] = new
        self.label_memory[self.curr_batch_idx] = labels.detach()
        end = start + batch_size
        self.has_been_filled = self.has_been_filled.to(end.device) | (
            end >= self.memory_size
        )
        self.queue_idx = end % self.memory_size

    def create_indices_tuple(
        self,
        embeddings: Tensor,
        labels: Tensor,
        E_mem: Tensor,
        L_mem: Tensor,
        input_indices_tuple: Indices | None,
        do_remove_self_comparisons: bool,
    ) -> Indices:
        """Pair the batch with the memory; PML calls this from its forward."""
        places = self.curr_batch_idx if do_remove_self_comparisons else None
        sides: tuple[Any, Any] = labels, L_mem
        if self.num_classes is not None:
            rows = torch.arange(len(L_mem), device=L_mem.device)
            sides = LabelSets(labels, ids=places), LabelSets(L_mem, ids=rows)
        if self.miner is None:
            pairs = lmu.get_all_pairs_indices(*sides)
        else:
            pairs = self.miner(embeddings, sides[0], E_mem, sides[1])
        if places is not None:
            pairs = _without_own_copies(pairs, places)
        if input_indices_tuple is None or places is None:
            return pairs
        within = _in_memory(input_indices_tuple, places)
        if len(within) < len(pairs):
            within = lmu.convert_to_pairs(within, labels)
        elif len(within) > len(pairs):
            within = lmu.convert_to_triplets(within, labels)
        return c_f.concatenate_indices_tuples(pairs, within)


def _without_own_copies(indices: Indices, places: Tensor) -> Indices:
    anchors, positives, *negatives = indices
    keep = places[anchors] != positives
    if len(indices) == 3:
        return anchors[keep], positives[keep], negatives[0][keep]
    return anchors[keep], positives[keep], *negatives


def _in_memory(indices: Indices, places: Tensor) -> Indices:
    """Turn a miner's batch positions of positives and negatives into memory rows."""
    if len(indices) == 3:
        anchors, positives, negatives = indices
        return anchors, places[positives], places[negatives]
    anchors1, positives, anchors2, negatives = indices
    return anchors1, places[positives], anchors2, places[negatives]
