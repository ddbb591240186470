"""Several processes: DistributedDataParallel with torchrun.

Start it with `torchrun --nproc-per-node 2 ddp.py`. All processes share one graph and merge
the same bits.
"""

import torch
from pytorch_metric_learning import losses
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pml_nmlayer import NMLoss, ProgressiveHead, ProgressiveMerging

torch.distributed.init_process_group("gloo")  # "nccl" on GPUs
rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
torch.manual_seed(0)
x, y = (torch.tensor(a) for a in load_digits(return_X_y=True))
x = x.float() / 16
head = ProgressiveHead(64, bits=(48, 12), num_classes=10)
model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), head))
loss = NMLoss(losses.SupConLoss(), head)  # the head itself, not the wrapper
merging = ProgressiveMerging(head, epochs_per_stage=2)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(1, 6):
    for rows in torch.randperm(1500).split(100):  # the same order everywhere
        own = rows[rank::world]
        optimizer.zero_grad()
        loss(model(x[own]), y[own]).backward()
        optimizer.step()
    merging.step(epoch)

groups = head.layers[0].groups
others = [torch.empty_like(groups) for _ in range(world)]
torch.distributed.all_gather(others, groups)
assert all(torch.equal(groups, other) for other in others)
if rank == 0:
    print(f"{world} processes merged to {head.bits} bits, in the same groups")
torch.distributed.destroy_process_group()
