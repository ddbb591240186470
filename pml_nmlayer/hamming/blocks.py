"""How much is counted at once, and on how many threads."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..labels.relevance import Relevance
from .products import Product, on_one_thread

Run = Callable[..., Iterable[Any]]
"""`map`, or one that has threads."""


class Blocks(NamedTuple):
    """How much is handled at once."""

    queries: int
    references: int
    sorted: int  # items of the database whose classes are sorted
    pairs: int  # by each thread
    threads: int
    wide: int  # items, where only bits are compared
    wide_pairs: int
    product: Product


def thread_count(q: Tensor, relevance: Relevance | None) -> int:
    """Tell how many threads count: as many as torch has for an operation on the CPU.

    Args:
        q: query codes; counting happens on their device.
        relevance: a user's function, which is called from one thread only.
    """
    on_cpu = torch.as_tensor(q).device.type == "cpu"
    return torch.get_num_threads() if on_cpu and relevance is None else 1


@contextmanager
def threads(count: int, large: bool = False) -> Iterator[Run]:
    """Offer a `map` that runs on `count` threads, of one thread an operation.

    bincount has one thread in any case. Threads that meet after each of many short
    operations are as slow as the last of them. With other work on the cores that took 20
    times as long as threads that meet a few times in all.

    Args:
        count: number of threads.
        large: see `products.is_large`.
    """
    if count == 1:
        with on_one_thread(large):
            yield map
        return
    torch.set_num_threads(1)  # for this thread, and new ones begin with it
    try:
        with on_one_thread(large), ThreadPoolExecutor(count) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(count)
