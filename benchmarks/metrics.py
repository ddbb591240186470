"""The metric table: what a report can say about stored codes.

A method is never asked how well it does. Distances are computed here, from packed codes.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

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


def judge(arrays: dict[str, np.ndarray], bits: int) -> dict[str, dict[str, float]]:
    """Compute every metric from the raw arrays of one run, by encoding.

    Args:
        arrays: labels `query_labels` (Q,) and `database_labels` (N,), or multi-hot rows
            (Q, C) and (N, C); and of each encoding E, `query_E` and `database_E`: packed
            codes (Q, B) and (N, B), uint8, or float32 embeddings (Q, D) and (N, D).
        bits: code length.
    """
    q_labels, r_labels = (
        torch.from_numpy(arrays[f"{part}_labels"]) for part in ("query", "database")
    )
    names = [name.removeprefix("query_") for name in arrays if name.startswith("query_")]
    values = {}
    for name in (name for name in names if name != "labels"):
        query, database = (
            torch.from_numpy(arrays[f"{part}_{name}"]) for part in ("query", "database")
        )
        if query.dtype == torch.uint8:
            values[name] = _judge_codes(query, database, q_labels, r_labels, bits)
        else:
            values[name] = _judge_embeddings(query, database, q_labels, r_labels)
    return values


def _judge_codes(
    query: Tensor, database: Tensor, q_labels: Tensor, r_labels: Tensor, bits: int
) -> dict[str, float]:
    items, hits = hamming_histograms(query, q_labels, database, r_labels, bits=bits)
    values = {}
    for metric in (METRICS[name] for name in METRICS):
        if metric.per_query is not None:
            values[metric.name] = float(metric.per_query(items, hits).nanmean())
    if q_labels.ndim == 2:
        values["ndcg"] = ndcg(query, q_labels, database, r_labels, gain="linear", bits=bits)
    return values


def _judge_embeddings(
    query: Tensor, database: Tensor, q_labels: Tensor, r_labels: Tensor
) -> dict[str, float]:
    """Rank by cosine; equal ones, which are rare, stay in the order of the database."""
    gains = _shared_labels(q_labels, r_labels)
    similarity = normalize(query) @ normalize(database).T
    order = similarity.argsort(dim=1, descending=True, stable=True)
    gains = gains.gather(1, order)
    ranks = torch.arange(1, gains.shape[1] + 1)
    hits = (gains > 0).double()
    total = hits.sum(1)  # 0 / 0 is NaN: such a query cannot be judged
    precision = hits.cumsum(1) / ranks
    values = {"map": float(((precision * hits).sum(1) / total).nanmean())}
    if q_labels.ndim == 2:
        discounts = 1 / (1 + ranks.double()).log2()
        ideal = gains.sort(dim=1, descending=True).values @ discounts
        values["ndcg"] = float((gains @ discounts / ideal).nanmean())
    return values


def _shared_labels(q_labels: Tensor, r_labels: Tensor) -> Tensor:
    if q_labels.ndim == 2:
        return q_labels.double() @ r_labels.double().T
    return (q_labels[:, None] == r_labels[None, :]).double()


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
