"""Changes of a module's buffers that are made in full, or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def all_or_nothing(module: nn.Module) -> Iterator[None]:
    """Put the numbers of all buffers back, if what is done within raises.

    Args:
        module: whose buffers are written to, in place.
    """
    kept = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)
        raise
