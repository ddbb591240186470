"""Where randomness begins: one seed for all generators, or for one of them for a while."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_everything(seed: int, device: str = "cpu") -> None:
    """Seed every generator that a loss, a miner or an initialisation may draw from.

    On the CPU an operation that is not deterministic is an error. Elsewhere some of what
    trunks and losses need has no deterministic form (adaptive pooling on CUDA, for one):
    torch warns of it, and results of two runs may differ in their last digits.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (PML draws from the global generator)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's generator for a while; a device's own is left alone."""
    generator = torch.random.default_generator
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)
