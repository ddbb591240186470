"""Means over queries, and the one rule for a query without a hit."""

from typing import Literal, get_args

from torch import Tensor

from ..runtime.options import check_choice
from ..runtime.renamed import renamed

Empty = Literal["skip", "zero"]


@renamed()
def mean_over_queries(values: Tensor, *, empty: Empty = "skip") -> float:
    """Mean over the queries; those without a relevant item are NaN.

    Args:
        values: (Q,) one value a query.
        empty: leave NaN out ("skip"), or count it as 0 ("zero").

    Returns:
        The mean; NaN if nothing is left to average over.

    Raises:
        ValueError: there are no queries at all, or another `empty`.
    """
    check_choice("empty", empty, get_args(Empty))
    if len(values) == 0:
        raise ValueError("there are no queries to average over (Q = 0)")
    return float(values.nan_to_num(nan=0.0).mean() if empty == "zero" else values.nanmean())
