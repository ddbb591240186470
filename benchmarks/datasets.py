"""Labelled feature sets and their seeded splits.

A reporting split draws its test queries from a test pool, a fixed share of every class.
A tuning split never sees that pool: no item that is a test query with any seed takes part
in a choice, not even as a database item.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .registry import Registry

Purpose = Literal["report", "tune"]
_POOL_SEED = 20190810  # of the fixed test pools; any constant does


@dataclass(frozen=True)
class Sizes:
    """Items a class in each part; what is no query is the database."""

    pool: int
    test: int
    validation: int
    train: int


@dataclass(frozen=True)
class Split:
    """Features, labels, and the ids (ascending, int64) that play each part.

    `test` is empty in a tuning split. `database` is everything that is no query, training
    items included; in a tuning split everything outside the test pool that is no query.
    """

    features: Tensor
    labels: Tensor
    train: Tensor
    validation: Tensor
    test: Tensor
    database: Tensor
    purpose: Purpose

    @property
    def queries(self) -> Tensor:
        """Ids of the items that search: test items in a report, validation in tuning."""
        return self.test if self.purpose == "report" else self.validation

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1

    def parts(self) -> dict[str, Tensor]:
        names = ("train", "validation", "test", "database")
        return {name: getattr(self, name) for name in names}

    def checksum(self) -> str:
        """SHA-256 of the data and of who plays which part."""
        digest = hashlib.sha256(self.purpose.encode())
        for values in (self.features, self.labels, *self.parts().values()):
            digest.update(f"{values.dtype}{tuple(values.shape)}".encode())
            digest.update(values.contiguous().numpy().tobytes())
        return digest.hexdigest()


Dataset = Callable[[int, Purpose], Split]
DATASETS: Registry[Dataset] = Registry("dataset")


def dataset(name: str) -> Callable[[Dataset], Dataset]:
    """Register a function (seed, purpose) -> Split under `name`."""

    def register(load: Dataset) -> Dataset:
        DATASETS.add(name, load)
        return load

    return register


def split_per_class(
    features: Tensor, labels: Tensor, sizes: Sizes, seed: int, purpose: Purpose
) -> Split:
    """Split a labelled set class by class.

    Args:
        features: (N, D) float32.
        labels: (N,) class ids.
        sizes: items a class in each part.
        seed: of the draw within the pool and outside of it; the pool itself is fixed.
        purpose: "report" or "tune".
    """
    fixed = np.random.default_rng(_POOL_SEED)
    # Two streams, so that a report and a tuning run of one seed share no draw.
    rng = np.random.default_rng([seed, purpose == "report"])
    chosen: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    outside = []
    for label in range(int(labels.max()) + 1):
        members = fixed.permutation(np.flatnonzero(labels.numpy() == label))
        pool, others = members[: sizes.pool], rng.permutation(members[sizes.pool :])
        _check_enough(label, len(others), sizes)
        chosen["train"].append(others[: sizes.train])
        chosen["validation"].append(others[sizes.train :][: sizes.validation])
        if purpose == "report":
            chosen["test"].append(rng.permutation(pool)[: sizes.test])
        else:
            outside.append(pool)
    ids = {name: np.sort(np.concatenate(v or [np.arange(0)])) for name, v in chosen.items()}
    elsewhere = np.concatenate([ids["validation"], ids["test"], *outside])
    ids["database"] = np.setdiff1d(np.arange(len(labels)), elsewhere)
    parts = {name: torch.from_numpy(values) for name, values in ids.items()}
    return Split(features, labels, purpose=purpose, **parts)


def _check_enough(label: int, others: int, sizes: Sizes) -> None:
    needed = sizes.train + sizes.validation
    if sizes.test > sizes.pool or others < needed:
        raise ValueError(
            f"class {label} has {others} items outside a test pool of {sizes.pool}, but "
            f"{needed} are needed there and {sizes.test} in the pool; ask for fewer"
        )


@lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)


@dataset("digits")
def digits(seed: int, purpose: Purpose) -> Split:
    """Load the 1,797 digits bundled with scikit-learn: 8 x 8 pixels in [0, 1]."""
    sizes = Sizes(pool=60, test=20, validation=10, train=70)
    return split_per_class(*_digits(), sizes, seed, purpose)
