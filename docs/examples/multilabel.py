"""Several labels an item: train a code on rows of 0 and 1.

DPSH takes such rows as they are. NDCG counts how many labels are shared.
"""

import torch
from sklearn.datasets import make_multilabel_classification

from pml_nmlayer import NMLoss, ProgressiveHead, ProgressiveMerging
from pml_nmlayer.losses import DPSHLoss
from pml_nmlayer.ranking import ndcg

torch.manual_seed(0)
x, y = make_multilabel_classification(
    1500, n_features=40, n_classes=8, n_labels=2, random_state=0
)
keep = y.sum(1) > 0
x, y = torch.tensor(x[keep]).float(), torch.tensor(y[keep])

head = ProgressiveHead(40, bits=(96, 24), num_classes=8)
loss = NMLoss(DPSHLoss(), head)
merging = ProgressiveMerging(head, epochs_per_stage=5)
optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)


def judge():
    """Return NDCG@all of the present code; 200 items are queries."""
    codes = head.codes(x)
    return ndcg(codes[:200], y[:200], codes[200:], y[200:])


print(f"NDCG@all untrained, {head.bits} bits: {judge():.3f}")
for epoch in range(1, 21):
    for rows in (torch.randperm(len(x) - 200) + 200).split(100):
        optimizer.zero_grad()
        loss(head(x[rows]), y[rows]).backward()
        optimizer.step()
    merging.step(epoch)
print(f"NDCG@all trained, {head.bits} bits: {judge():.3f}")
