"""Means over the queries of each class."""

from typing import Any

from torch import Tensor

from ..labels.checks import as_labels, check_labels
from .queries import Empty, mean_over_queries


def mean_by_class(
    values: Tensor, labels: Any, *, empty: Empty = "skip"
) -> dict[int, float]:
    r"""Mean over the queries of each class, with the class as key.

    Args:
        values: one value a query, NaN without relevant items.
        labels: of the queries: class ids, or rows of 0 and 1, whose queries count for each
            of their classes.
        empty: leave NaN out ("skip"), or count it as 0 ("zero").

    Shapes:   values (Q,), labels (Q,) or (Q, C).
    Returns:  class id, or column of the row -> mean; NaN for a class without anything to
              average over. All classes that a query has, in order.
    Raises:   ValueError: labels that do not fit, or another `empty`.

    Example:
        >>> import torch
        >>> mean_by_class(torch.tensor([1.0, 0.5, 0.0]), torch.tensor([7, 7, 3]))
        {3: 0.0, 7: 0.75}
    """
    labels = as_labels(labels)
    check_labels(labels, len(values), read=True)
    labels = labels.to(values.device)
    if labels.ndim == 2:
        columns = [c for c in range(labels.shape[1]) if bool(labels[:, c].any())]
        members = {c: labels[:, c] > 0 for c in columns}
    else:
        members = {int(c): labels == c for c in labels.unique()}
    return {c: mean_over_queries(values[mine], empty=empty) for c, mine in members.items()}
