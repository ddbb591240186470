"""Resume after a kill: the same weights as if nothing had happened.

Start it, kill it, start it again with the same folder. Each epoch ends with a checkpoint
that is written as a whole.
"""

import sys
from pathlib import Path

import torch
from pytorch_metric_learning import losses
from sklearn.datasets import load_digits

from pml_nmlayer import NMLoss, ProgressiveHead, ProgressiveMerging
from pml_nmlayer.hooks import RandomState, load_checkpoint, save_checkpoint

path = Path(sys.argv[1] if len(sys.argv) > 1 else ".", "checkpoint.pt")
torch.manual_seed(0)
x, y = (torch.tensor(a) for a in load_digits(return_X_y=True))
x = x.float() / 16
head = ProgressiveHead(64, bits=(48, 24, 12), num_classes=10)
loss = NMLoss(losses.SupConLoss(), head)
optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
merging = ProgressiveMerging(head, epochs_per_stage=2)
parts = {"head": head, "optimizer": optimizer, "merging": merging, "random": RandomState()}

first = load_checkpoint(path, **parts)["epoch"] + 1 if path.exists() else 1
for epoch in range(first, 9):
    for rows in torch.randperm(1500).split(100):
        optimizer.zero_grad()
        loss(head(x[rows]), y[rows]).backward()
        optimizer.step()
    merging.step(epoch)
    save_checkpoint(path, epoch=epoch, **parts)
    print(f"epoch {epoch}: {head.bits} bits", flush=True)
print(f"checksum {sum(p.double().sum().item() for p in head.parameters()):.12f}")
