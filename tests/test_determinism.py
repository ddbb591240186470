"""The same seed gives the same codes: twice in one process, and in two processes."""

import subprocess
import sys

import torch

from pml_nmlayer.codes import pack_codes
from pml_nmlayer.hooks import ProgressiveMerging
from pml_nmlayer.losses import DPSHLoss, NMLoss
from tests.digits import digits, trunk_and_head


def trained_codes(seed):
    torch.manual_seed(seed)
    train, test = digits()
    trunk, head = trunk_and_head()
    loss, merging = NMLoss(DPSHLoss(), head), ProgressiveMerging(head, epochs_per_stage=1)
    optimizer = torch.optim.Adam([*trunk.parameters(), *head.parameters()], lr=3e-3)
    for epoch in (1, 2, 3):
        for x, y in torch.utils.data.DataLoader(train, 64, shuffle=True):
            optimizer.zero_grad()
            loss(head(trunk(x)), y).backward()
            optimizer.step()
        merging.step(epoch)
    return bytes(pack_codes(head.codes(trunk(test.tensors[0]))).flatten().tolist()).hex()


def test_twice_in_one_process():
    first = trained_codes(0)
    assert trained_codes(0) == first
    assert trained_codes(1) != first


def test_in_two_processes():
    script = "from tests.test_determinism import trained_codes; print(trained_codes(0))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == trained_codes(0)
