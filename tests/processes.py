"""Processes of one torch process group, for tests of what they do together."""

import contextlib
import datetime
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def process_group(rank: int, world: int, folder: str) -> Iterator[None]:
    """Be process `rank` of `world`, of one thread; they meet in a folder."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=60),
    )
    yield
    torch.distributed.destroy_process_group()
