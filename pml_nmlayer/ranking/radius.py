"""Precision, recall and F1 within a Hamming radius, in which ties play no part."""

import torch
from torch import Tensor

from ..runtime.options import check_count, check_number
from ..runtime.renamed import renamed
from .ties import _check_histograms


@renamed()
def precision_within_radius(
    items: Tensor, hits: Tensor, radius: int = 2, *, empty: float = 0.0
) -> Tensor:
    r"""Share of relevant items among all items within a Hamming radius (inclusive).

    Formula:  P_r = sum over d <= r of h_d / sum over d <= r of n_d.

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.
        radius: r >= 0, in bits, inclusive (faiss' range_search is exclusive).
        empty: the value of a query with no item within the radius; NaN to leave it out.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in [0, 1]; does not depend on the order of ties.
    Raises:   ValueError: as `tie_aware_average_precision`; radius < 0.
    Source:   hash lookup of the hashing literature.  Differs: no; 0 for an empty ball is
              the convention of thulab/DeepHash.
    """
    near_items, near_hits = _within(items, hits, radius)
    if empty == empty:  # NaN is a value that means leave out
        check_number("empty", empty, least=0, most=1)
    return torch.where(near_items > 0, near_hits / near_items.clamp(min=1), empty)


def recall_within_radius(items: Tensor, hits: Tensor, radius: int = 2) -> Tensor:
    r"""Share of all relevant items that lie within a Hamming radius (inclusive).

    Formula:  R_r = sum over d <= r of h_d / R.

    Args:
        items: number of database items at each distance (checked against `hits`).
        hits: number of relevant items at each distance.
        radius: r >= 0, in bits, inclusive.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in [0, 1]; NaN where R = 0.
    Raises:   ValueError: as `precision_within_radius`.
    Source:   hash lookup of the hashing literature.  Differs: no.
    """
    _, near_hits = _within(items, hits, radius)
    relevant = hits.sum(1).double()
    return torch.where(relevant > 0, near_hits / relevant, torch.nan)


def f1_within_radius(items: Tensor, hits: Tensor, radius: int = 2) -> Tensor:
    r"""Harmonic mean of precision and recall within a Hamming radius (inclusive).

    Formula:  F1_r = 2 P_r R_r / (P_r + R_r)
              = 2 sum over d <= r of h_d / (sum over d <= r of n_d + R).

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.
        radius: r >= 0, in bits, inclusive.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in [0, 1]; NaN where R = 0; 0 for an empty ball.
    Raises:   ValueError: as `precision_within_radius`.
    Source:   van Rijsbergen 1979.  Differs: no; it is the mean over queries of F1, and not
              the F1 of mean precision and mean recall.
    """
    near_items, near_hits = _within(items, hits, radius)
    relevant = hits.sum(1)
    value = 2 * near_hits / (near_items + relevant).clamp(min=1)
    return torch.where(relevant > 0, value, torch.nan)


def _within(items: Tensor, hits: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    _check_histograms(items, hits)
    check_count("radius", radius, least=0)
    ball = slice(0, radius + 1)
    return items[:, ball].sum(1).double(), hits[:, ball].sum(1).double()
