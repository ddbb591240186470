"""The metric table: what a report can say about stored codes.

A method is never asked how well it does. Distances are computed here, from packed codes.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pml_nmlayer.hamming import hamming_histograms
from pml_nmlayer.ranking import (
    ndcg,
    precision_within_radius,
    tie_aware_average_precision,
)

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
            query that cannot be judged. None: by grades, and only where items have
            several labels.
    """

    name: str
    label: str
    unit: str
    better: Literal["up", "down"]
    rule: str
    per_query: Callable[[Tensor, Tensor], Tensor] | None


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
    Metric(
        "ndcg",
        "NDCG@all",
        "share of 1",
        "up",
        "NDCG@all: the gain of an item is the number of labels that it shares with the "
        "query, its discount log2(1 + rank); tie-aware as mAP, over the whole database",
        None,
    ),
):
    METRICS.add(_metric.name, _metric)


def judge(arrays: dict[str, np.ndarray], bits: int) -> dict[str, float]:
    """Compute every metric from the raw arrays of one run.

    Args:
        arrays: packed codes `query_codes` (Q, B) and `database_codes` (N, B), uint8, and
            their labels, `query_labels` (Q,) and `database_labels` (N,), or multi-hot
            rows (Q, C) and (N, C).
        bits: code length.
    """
    tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
    names = ("query_codes", "query_labels", "database_codes", "database_labels")
    q, q_labels, r, r_labels = (tensors[name] for name in names)
    items, hits = hamming_histograms(q, q_labels, r, r_labels, bits=bits)
    values = {}
    for metric in (METRICS[name] for name in METRICS):
        if metric.per_query is not None:
            values[metric.name] = float(metric.per_query(items, hits).nanmean())
    if q_labels.ndim == 2:
        values["ndcg"] = ndcg(q, q_labels, r, r_labels, gain="linear", bits=bits)
    return values


def shown(values: Iterable[Mapping[str, float]]) -> list[Metric]:
    """Pick the metrics that were computed; before any result those of class ids."""
    found = {name for each in values for name in each}
    return [
        METRICS[name]
        for name in METRICS
        if name in found or (not found and METRICS[name].per_query is not None)
    ]


def main_metrics(metrics: Iterable[Metric]) -> list[Metric]:
    """Pick those that decide: mAP, and NDCG beside it where there is one."""
    return [metric for metric in metrics if metric.name in ("map", "ndcg")]
