"""How much of a ranking is decided by ties."""

import torch
from torch import Tensor

from ..runtime.options import check_count
from .ties import _check_histograms


def tied_at_k(items: Tensor, k: int) -> Tensor:
    r"""Tell for which queries the first k items all lie at one distance.

    Where that is so the order of the first k is chance. A large share of such queries
    means codes that are too short, or too few different ones.

    Formula:  [n_d >= min(k, N) for the nearest d with n_d > 0].

    Args:
        items: number of database items at each distance.
        k: number of ranks, at least 2 to be of interest.

    Shapes:   items (Q, K + 1) int64 -> (Q,) float64.
    Returns:  0 or 1; NaN for a query without any item. The mean is the share of queries.
    Raises:   ValueError: another shape, or k < 1.
    Source:   this package.  Differs: no counterpart.

    Example:
        >>> tied_at_k(torch.tensor([[0, 3], [2, 1]]), k=3)
        tensor([1., 0.], dtype=torch.float64)
    """
    _check_histograms(items, items)
    check_count("k", k)
    total = items.sum(1)
    nearest = items.gather(1, (items > 0).int().argmax(1, keepdim=True)).squeeze(1)
    tied = (nearest >= total.clamp(max=k)).double()
    return torch.where(total > 0, tied, torch.nan)
