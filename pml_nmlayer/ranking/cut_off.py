"""Precision and recall among the first k items."""

import torch
from torch import Tensor

from ..runtime.options import check_count
from .ties import _check_histograms


def precision_at_k(items: Tensor, hits: Tensor, k: int) -> Tensor:
    r"""Share of relevant items among the first k, in expectation over all orders of ties.

    Formula:  P@k = sum over d of m_d h_d / n_d / min(k, N), where m_d items of distance d
              are among the first k: m_d = min(n_d, max(k - N_d, 0)).

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.
        k: number of ranks.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in [0, 1]; NaN where R = 0.
    Raises:   ValueError: as `tie_aware_average_precision`.
    Source:   McSherry and Najork, ECIR 2008.  Differs: a database of fewer than k items is
              judged as a whole.

    Example:
        >>> precision_at_k(torch.tensor([[1, 2]]), torch.tensor([[1, 1]]), k=2)
        tensor([0.7500], dtype=torch.float64)
    """
    found = _hits_at_k(items, hits, k)
    retrieved = items.sum(1).clamp(min=1, max=k)
    return torch.where(hits.sum(1) > 0, found / retrieved, torch.nan)


def recall_at_k(items: Tensor, hits: Tensor, k: int) -> Tensor:
    r"""Share of all relevant items among the first k, in expectation over orders of ties.

    Formula:  R@k = sum over d of m_d h_d / n_d / R, with m_d of `precision_at_k`.

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.
        k: number of ranks.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in [0, 1]; NaN where R = 0.
    Raises:   ValueError: as `tie_aware_average_precision`.
    Source:   McSherry and Najork, ECIR 2008.
              Differs: metric learning papers call Recall@K whether any of the first k is
              relevant, which is `hit_rate_at_k`; this is the share of the relevant items.
    """
    found = _hits_at_k(items, hits, k)
    relevant = hits.sum(1)
    return torch.where(relevant > 0, found / relevant, torch.nan)


def _hits_at_k(items: Tensor, hits: Tensor, k: int) -> Tensor:
    """Expected number of hits among the first k."""
    _check_histograms(items, hits)
    check_count("k", k)
    m = (k - (items.cumsum(1) - items)).clamp(min=0).minimum(items)
    return (m * hits / items.clamp(min=1).double()).sum(1)
