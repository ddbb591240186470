"""Seeded draws, class by class.

Test queries come from a test pool that is the same for every seed: the images that the
source calls test, or a fixed share of every class. A tuning split never sees the pool: no
item that is a test query with any seed takes part in a choice, not even in the database.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from .interface import Purpose

POOL_SEED = 20190810  # of everything that no seed changes; any constant does
Ids = np.ndarray


@dataclass(frozen=True)
class Sizes:
    """Items of one class in each part; `pool` unless the source has a test set."""

    pool: int
    test: int
    validation: int
    train: int


@dataclass(frozen=True)
class Draw:
    """Ids by part, ascending; `test` is empty in tuning."""

    pool: Ids
    test: Ids
    validation: Ids
    train: Ids


def fixed_stream() -> np.random.Generator:
    """Make the generator of what is the same for every seed."""
    return np.random.default_rng(POOL_SEED)


def seeded_stream(seed: int, purpose: Purpose) -> np.random.Generator:
    """Make the generator of a seed; a report and a tuning run of one seed share no draw."""
    return np.random.default_rng([seed, purpose == "report"])


def groups(labels: Tensor) -> Iterator[tuple[str, Ids]]:
    """Yield what is drawn from evenly: each class, or all items if labels are multi-hot."""
    if labels.ndim == 2:
        yield "the set", np.arange(len(labels))
        return
    values = labels.numpy()
    for label in np.unique(values):
        yield f"class {label}", np.flatnonzero(values == label)


def draw(
    labels: Tensor,
    sizes_of: Callable[[int], Sizes],
    seed: int,
    purpose: Purpose,
    pool: Ids | None = None,
) -> Draw:
    """Draw the parts of every class.

    Args:
        labels: class ids (N,) or multi-hot rows (N, C).
        sizes_of: sizes for a class, given its number of items.
        seed: of the draw within the pool and outside of it; the pool itself is fixed.
        purpose: "report" or "tune".
        pool: the test pool, if the source has one.

    Raises:
        ValueError: a class has too few items.
    """
    fixed, rng = fixed_stream(), seeded_stream(seed, purpose)
    found: dict[str, list[Ids]] = {name: [] for name in Draw.__dataclass_fields__}
    for name, members in groups(labels):
        sizes, members = sizes_of(len(members)), fixed.permutation(members)
        inside = np.arange(len(members)) < sizes.pool
        if pool is not None:
            inside = np.isin(members, pool)
        tested, others = members[inside], rng.permutation(members[~inside])
        _check_enough(name, len(tested), len(others), sizes)
        found["pool"].append(tested)
        found["train"].append(others[: sizes.train])
        found["validation"].append(others[sizes.train :][: sizes.validation])
        if purpose == "report":
            found["test"].append(rng.permutation(tested)[: sizes.test])
    none = np.arange(0)
    return Draw(**{k: np.sort(np.concatenate([none, *v])) for k, v in found.items()})


def _check_enough(name: str, pool: int, others: int, sizes: Sizes) -> None:
    needed = sizes.train + sizes.validation
    if sizes.test > pool or others < needed:
        raise ValueError(
            f"{name} has {others} items outside a test pool of {pool}, but "
            f"{needed} are needed there and {sizes.test} in the pool; ask for fewer, or "
            "choose another protocol"
        )
