"""Precision and recall at every distance."""

from typing import get_args

import torch
from torch import Tensor

from ..runtime.options import check_choice
from ..runtime.renamed import renamed
from .queries import Empty
from .ties import _check_histograms


@renamed()
def precision_recall_curve(
    items: Tensor, hits: Tensor, *, empty: Empty = "skip"
) -> tuple[Tensor, Tensor]:
    r"""Precision and recall at every Hamming radius 0..K, averaged over queries.

    Formula:  P_r and R_r of `precision_within_radius` and `recall_within_radius`; the mean
              of each over the queries with R > 0.

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.
        empty: leave queries with R = 0 out, or count them as 0 ("zero").

    Shapes:   items, hits (Q, K + 1) int64 -> (K + 1,), (K + 1,) float64.
    Returns:  (precision, recall), one point a radius. A query whose ball is empty is left
              out of the mean precision at that radius; NaN where every ball is empty.
    Raises:   ValueError: as `tie_aware_average_precision`, or no query with R > 0.
    Source:   hash lookup of the hashing literature.  Differs: empty balls are left out
              here, since a curve with zeros at small radii says how many balls are empty
              and not how precise the others are.
    """
    _check_histograms(items, hits)
    check_choice("empty", empty, get_args(Empty))
    judged = hits.sum(1) > 0
    if not bool(judged.any()):
        raise ValueError("no query has a relevant item: there is no curve to draw")
    kept = judged if empty == "skip" else torch.ones_like(judged)
    n, h = items[kept].double().cumsum(1), hits[kept].double().cumsum(1)
    precision = torch.where(n > 0, h / n.clamp(min=1), torch.nan).nanmean(0)
    return precision, (h / h[:, -1:].clamp(min=1)).mean(0)
