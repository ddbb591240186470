"""Batches with m items of each of their classes, for multi-hot labels too."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pytorch_metric_learning.utils import common_functions as c_f
from torch.utils.data import Sampler

from ..labels.checks import check_labels
from ..runtime.options import check_count

Labels = torch.Tensor | np.ndarray | list[int] | list[list[int]]


class MultiLabelMPerClassSampler(Sampler[int]):
    r"""Draw m items of each class of a batch, as PML's MPerClassSampler does.

    An item of several classes counts for each of them. A batch is filled class by class
    with m items that are not in it yet. So every class drawn for the batch has at least
    m items in it. Only if a class has fewer than m left, items are repeated. Classes are
    drawn equally often, so rare labels are seen more often than in a plain shuffle.

    Args:
        labels: class ids (N,) or multi-hot rows (N, C); tensor, array or list. Items
            without labels are never drawn.
        m: items a class, >= 1.
        batch_size: a multiple of m, at most m times the number of classes in use, and the
            DataLoader's batch size; None lets one round go through all classes.
        length_before_new_iter: items an epoch, rounded down to whole batches or rounds.
        seed: of a generator of its own, which goes on from epoch to epoch; None draws from
            PML's NUMPY_RANDOM, which is NumPy's global generator.

    Shapes:   yields N-dataset positions as int.
    Returns:  for class ids and no seed: the very sequence of MPerClassSampler.
    Raises:   ValueError: labels that are neither, no label at all, or sizes that do not
              fit, where PML asserts.
    Source:   pytorch-metric-learning, MPerClassSampler.
              Differs: multi-hot labels; a seed; the length counts the whole round when
              length_before_new_iter is shorter than one.

    Example:
        >>> rows = [[1, 0], [1, 1], [0, 1], [0, 1]]
        >>> sampler = MultiLabelMPerClassSampler(rows, m=2, batch_size=4, seed=0,
        ...                                      length_before_new_iter=4)
        >>> sorted(sampler)
        [0, 1, 2, 3]
    """

    def __init__(
        self,
        labels: Labels,
        m: int,
        batch_size: int | None = None,
        length_before_new_iter: int = 100000,
        *,
        seed: int | None = None,
    ) -> None:
        check_count("m", m)
        check_count("batch_size", batch_size, none="one round through all classes")
        check_count("length_before_new_iter", length_before_new_iter)
        check_count("seed", seed, least=0, none="PML's generator")
        self.m_per_class = int(m)
        self.batch_size = None if batch_size is None else int(batch_size)
        self.labels_to_indices = _members(labels)
        self.labels = list(self.labels_to_indices)
        self.num_items = len(labels)
        self.random: Any = c_f.NUMPY_RANDOM if seed is None else np.random.default_rng(seed)
        self._check_sizes(length_before_new_iter)
        divisor = self.batch_size or self.m_per_class * len(self.labels)
        self.num_rounds = max(length_before_new_iter // divisor, 1)
        self.list_size = self.num_rounds * divisor

    def __len__(self) -> int:
        return self.list_size

    def __iter__(self) -> Iterator[int]:
        count = None if self.batch_size is None else self.batch_size // self.m_per_class
        taken = np.zeros(self.num_items, dtype=bool)
        for _ in range(self.num_rounds):
            self.random.shuffle(self.labels)
            taken[:] = False
            for label in self.labels[:count]:
                drawn = self._draw(self.labels_to_indices[label], taken)
                taken[drawn] = True
                yield from drawn.tolist()

    def _draw(self, members: np.ndarray, taken: np.ndarray) -> np.ndarray:
        m, fresh, rest = self.m_per_class, members[~taken[members]], members[taken[members]]
        if len(fresh) >= m or len(rest) == 0:
            return self.random.choice(fresh, size=m, replace=len(fresh) < m)
        more = m - len(fresh)
        repeats = self.random.choice(rest, size=more, replace=len(rest) < more)
        return np.concatenate([fresh, repeats])

    def _check_sizes(self, length: int) -> None:
        m, batch_size, classes = self.m_per_class, self.batch_size, len(self.labels)
        if classes == 0:
            raise ValueError("no item has a label, so there is nothing to draw")
        if batch_size is None:
            return
        if batch_size % m or batch_size > m * classes:
            raise ValueError(
                f"batch_size must be a multiple of m = {m} and at most m times the "
                f"{classes} classes in use = {m * classes}, got {batch_size}"
            )
        if length < batch_size:
            raise ValueError(
                f"length_before_new_iter must be at least batch_size = {batch_size}, "
                f"got {length}"
            )


def _members(labels: Labels) -> dict[Any, np.ndarray]:
    """Map each class in use to the positions of its items."""
    rows = labels.cpu().numpy() if torch.is_tensor(labels) else np.asarray(labels)
    if rows.ndim not in (1, 2):
        raise ValueError(f"labels must be (N,) or (N, C), got shape {rows.shape}")
    if rows.dtype.kind in "biufc" and (rows.dtype != np.uint64):
        check_labels(torch.as_tensor(rows), len(rows), read=True)
    elif rows.ndim != 1:
        raise ValueError(
            "labels must be class ids (N,) or multi-hot rows (N, C) of 0 and 1, got "
            f"shape {rows.shape} of {rows.dtype}"
        )
    if rows.ndim == 1:
        return c_f.get_labels_to_indices(rows)
    return {c: np.flatnonzero(rows[:, c]) for c in range(rows.shape[1]) if rows[:, c].any()}
