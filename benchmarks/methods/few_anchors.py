"""A miner that keeps losses over all (positive, negative) combinations affordable."""

from typing import Any

import torch
from pytorch_metric_learning.miners import BaseMiner
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu
from torch import Tensor

MOST = 32


class FewAnchors(BaseMiner):
    """One random positive, as in SimCLR, and all negatives of MOST random anchors.

    PML's NTXentLoss makes a matrix of all positive by all negative pairs. For a whole batch
    of 128 items of 10 classes it is 1,500 by 15,000, and a step takes a second.
    """

    def mine(
        self, embeddings: Tensor, labels: Any, ref_emb: Tensor, ref_labels: Any
    ) -> tuple[Tensor, ...]:
        """Draw from torch's default generator; anchors without a positive do not count."""
        anchors, positives, others, negatives = lmu.get_all_pairs_indices(
            labels, ref_labels
        )
        order = torch.randperm(len(anchors), device=anchors.device)
        order = order[anchors[order].argsort(stable=True)]
        first = torch.ones_like(order, dtype=torch.bool)
        first[1:] = anchors[order][1:] != anchors[order][:-1]
        chosen = order[first]
        chosen = chosen[torch.randperm(len(chosen), device=chosen.device)[:MOST]]
        kept = torch.isin(others, anchors[chosen])
        return anchors[chosen], positives[chosen], others[kept], negatives[kept]
