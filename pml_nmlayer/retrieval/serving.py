"""Run trained modules as they are to be served."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def unwrap(module: nn.Module) -> nn.Module:
    """Take a model out of DataParallel or DistributedDataParallel, also a compiled one.

    A compiled model without those stays compiled.

    Args:
        module: wrapped or not.
    """
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    inner = getattr(module, "_orig_mod", module)
    if isinstance(module, wrappers):
        return unwrap(module.module)
    return unwrap(inner) if isinstance(inner, wrappers) else module


def uncompiled(module: nn.Module) -> nn.Module:
    """Take a module out of torch.compile's wrapper.

    Args:
        module: compiled or not.
    """
    inner = getattr(module, "_orig_mod", None)
    return uncompiled(inner) if isinstance(inner, nn.Module) else module


def device_of(*modules: nn.Module) -> torch.device:
    """Device of the first parameter; the CPU without any.

    Args:
        modules: in the order in which to look.
    """
    for module in modules:
        for parameter in module.parameters():
            return parameter.device
    return torch.device("cpu")


def as_device(device: Any) -> torch.device:
    """Check the name of a device.

    Args:
        device: a name or a torch.device.

    Raises:
        ValueError: it names none.
    """
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device must name a device such as 'cpu', got {device!r}"
        ) from error


@torch.no_grad()
def outputs(
    trunk: nn.Module, head: nn.Module, x: Tensor, amp: torch.dtype | None
) -> Tensor:
    """Compute head(trunk(x)).

    Args:
        trunk: in eval mode; run under autocast if `amp` is given.
        head: in eval mode; always run in its own precision, since its outputs
            are about to be signs.
        x: a batch on the device of the modules.
        amp: dtype of autocast, or None.
    """
    kind = x.device.type
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
