"""What the kernels suite times of long codes and many classes."""

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from pml_nmlayer.losses import DPSHLoss

from ..results import Spec
from ..training.heads import make_head, make_nm_loss
from .contests import KERNELS, STEP_BITS, STEP_WIDTH, Contest, batch_labels, kernel


def active_step_of_width(spec: Spec, device: str, bits: int) -> Contest:
    """Time an active step with classes at some start length, against one without NMLayer.

    Where the ratio at 1,024 bits is not above that at 48, it grows no faster.

    Args:
        spec: of the kernel.
        device: where to compute.
        bits: start length.
    """
    head = make_head(STEP_WIDTH, (bits, STEP_BITS[-1]), num_classes=2 * STEP_BITS[-1])
    features = torch.randn(spec["batch_size"], STEP_WIDTH).to(device)
    labels = batch_labels(spec, device)
    every = head.current_layer.scorer.every_n_steps

    def steps(module: nn.Module, loss: nn.Module) -> Callable[[], None]:
        module = module.to(device)
        optimizer = torch.optim.Adam(module.parameters())

        def call() -> None:
            for _ in range(every):
                optimizer.zero_grad()
                loss(module(features), labels).backward()
                optimizer.step()

        return call

    plain = nn.Sequential(nn.Linear(STEP_WIDTH, bits), nn.Tanh())
    return Contest(
        steps(head, make_nm_loss(DPSHLoss(), head)),
        steps(plain, DPSHLoss()),
        f"{every} steps of the head alone, nn.Linear of {bits}",
    )


for _bits in (48, 1024):
    KERNELS.add(f"growth/active_{_bits}", partial(active_step_of_width, bits=_bits))


@kernel("merge/many_classes")
def merge_of_many_classes(spec: Spec, device: str, classes: int = 4000) -> Contest:
    """Time a merge that finds codewords for many classes, against one assignment.

    Args:
        spec: of the kernel.
        device: where the head is; the search for codewords uses the CPU.
        classes: how many; the peer assigns as many rows to as many columns.
    """
    head = make_head(64, (96, 16), num_classes=classes).to(device)
    centres = torch.randn(classes, 64)
    for ids in torch.arange(4 * classes).split(1000):
        labels = ids % classes
        x = (centres[labels] + 0.3 * torch.randn(len(labels), 64)).to(device)
        with torch.no_grad():
            head.observe(head(x), labels.to(device))
    costs = np.random.default_rng(spec["seed"]).random((classes, classes))
    return Contest(
        lambda: copy.deepcopy(head).merge_next(),
        lambda: linear_sum_assignment(costs),
        f"scipy linear_sum_assignment, random {classes} x {classes}",
    )
