"""Refuse loaders whose batches come in an order that nobody could restore."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    SequentialSampler,
)

_CURE = (
    "pass the dataset itself (loader.dataset), or a loader without shuffle and drop_last"
)


def check_order(loader: DataLoader[Any]) -> None:
    """Accept a loader that gives all rows in the order of its dataset, or of a given list.

    Args:
        loader: of batches.

    Raises:
        ValueError: it shuffles, drops the last batch, or has several workers for a stream.
    """
    is_stream = isinstance(loader.dataset, IterableDataset)
    if loader.drop_last and (is_stream or _rows(loader) % (loader.batch_size or 1)):
        raise ValueError(
            f"this loader drops its last batch, so rows would have no code: {_CURE}"
        )
    if loader.num_workers and not getattr(loader, "in_order", True):
        raise ValueError(f"this loader has in_order=False, so rows change places: {_CURE}")
    if is_stream:
        if loader.num_workers > 1:
            raise ValueError(
                f"{loader.num_workers} workers read this stream, so its rows are mixed or "
                "repeated: use a loader with num_workers=0 or 1"
            )
        return
    sampler: Any = loader.sampler
    batch_sampler = loader.batch_sampler
    if batch_sampler is not None and type(batch_sampler) is not BatchSampler:
        sampler = batch_sampler
    lists = Sequence | np.ndarray | Tensor
    if type(sampler) is not SequentialSampler and not isinstance(sampler, lists):
        raise ValueError(
            f"this loader takes rows in the order of a {type(sampler).__name__}, so nobody "
            f"would know which code belongs to which row: {_CURE}"
        )


def _rows(loader: DataLoader[Any]) -> int:
    return len(loader.sampler)  # type: ignore[arg-type]
