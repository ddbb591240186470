"""The metric table: what a report can say about stored codes.

A method is never asked how well it does. Distances are computed here, from packed codes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pml_nmlayer.hamming import hamming_histograms
from pml_nmlayer.ranking import precision_within_radius, tie_aware_average_precision

from .registry import Registry


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    Args:
        name: key in files.
        label: how tables and axes call it.
        unit: of the value.
        better: which way is better.
        rule: the tie rule and denominators, for the foot of a table.
        per_query: histograms (items, hits), both (Q, K + 1), -> (Q,) values; NaN for a
            query that cannot be judged.
    """

    name: str
    label: str
    unit: str
    better: Literal["up", "down"]
    rule: str
    per_query: Callable[[Tensor, Tensor], Tensor]


METRICS: Registry[Metric] = Registry("metric")
for _metric in (
    Metric(
        "map",
        "mAP@all",
        "share of 1",
        "up",
        "tie-aware mAP@all: the expectation of average precision over all orders of items "
        "at equal Hamming distance, over the whole database; mean over the queries",
        tie_aware_average_precision,
    ),
    Metric(
        "p_at_radius_2",
        "P@r≤2",
        "share of 1",
        "up",
        "P@r≤2: relevant share of the items within Hamming radius 2 (inclusive, so ties "
        "play no part); a query that finds none counts 0",
        lambda items, hits: precision_within_radius(items, hits, radius=2),
    ),
):
    METRICS.add(_metric.name, _metric)


def judge(arrays: dict[str, np.ndarray], bits: int) -> dict[str, float]:
    """Compute every metric from the raw arrays of one run.

    Args:
        arrays: packed codes `query_codes` (Q, B) and `database_codes` (N, B), uint8, and
            their labels, `query_labels` (Q,) and `database_labels` (N,).
        bits: code length.
    """
    tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
    items, hits = hamming_histograms(
        tensors["query_codes"],
        tensors["query_labels"],
        tensors["database_codes"],
        tensors["database_labels"],
        bits=bits,
    )
    metrics = (METRICS[name] for name in METRICS)
    return {m.name: float(m.per_query(items, hits).nanmean()) for m in metrics}
