"""Run trained modules as they are to be served, and leave them as they were."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def unwrap(module: nn.Module) -> nn.Module:
    """Take a model out of DataParallel or DistributedDataParallel.

    Args:
        module: wrapped or not.
    """
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    return module.module if isinstance(module, wrappers) else module


def device_of(*modules: nn.Module) -> torch.device:
    """Device of the first parameter; the CPU without any.

    Args:
        modules: in the order in which to look.
    """
    for module in modules:
        for parameter in module.parameters():
            return parameter.device
    return torch.device("cpu")


@contextlib.contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """Switch to eval mode; afterwards each part is in the mode it was in.

    Args:
        modules: parts of them may be in eval mode already (a frozen batch norm, say).
    """
    training = [part for module in modules for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


@torch.no_grad()
def outputs(
    trunk: nn.Module, head: nn.Module, x: Tensor, amp: torch.dtype | None
) -> Tensor:
    """Compute head(trunk(x)) in eval mode.

    Args:
        trunk: run under autocast if `amp` is given.
        head: always run in its own precision, since its outputs are about to be signs.
        x: a batch on the device of the modules.
        amp: dtype of autocast, or None.
    """
    kind = x.device.type
    with eval_mode(trunk, head):
        with torch.autocast(kind, dtype=amp, enabled=amp is not None):
            features = trunk(x)
        if amp is not None:
            features = features.to(next(head.parameters(), torch.empty(0)).dtype)
        with torch.autocast(kind, enabled=False):
            return head(features)


@contextlib.contextmanager
def progress_bar(shown: bool, total: int | None) -> Iterator[Any]:
    """Give a function that is to be told the number of rows just done.

    Args:
        shown: whether to show anything.
        total: number of rows, if known.
    """
    if not shown:
        yield lambda rows: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="row") as bar:
        yield bar.update
