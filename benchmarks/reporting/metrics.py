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
from pml_nmlayer.ranking import ndcg, precision_within_radius, tie_aware_average_precision

from ..registry import Registry


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
            query that cannot be judged. None: by labels that not every data set has,
            several an item or coarse ones.
        published: whether it is kept in the summaries that are published.
    """

    name: str
    label: str
    unit: str
    better: Literal["up", "down"]
    rule: str
    per_query: Callable[[Tensor, Tensor], Tensor] | None
    published: bool = True

    @property
    def sentence(self) -> str:
        """The rule as a sentence of its own."""
        return f"{self.rule[0].upper()}{self.rule[1:]}."


METRICS: Registry[Metric] = Registry("metric")
for _metric in (
    Metric(
        "map",
        "mAP@all",
        "share of 1",
        "up",
        "tie-aware mAP@all: the expectation of average precision over all orders of items "
        "at equal Hamming distance, over the whole database; mean over the queries; AP is "
        "divided by the number of relevant items (as by every normaliser @all)",
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
        published=False,
    ),
    Metric(
        "ndcg",
        "NDCG@all",
        "share of 1",
        "up",
        "NDCG@all: the gain of an item is the number of labels that it shares with the "
        "query, its discount log2(1 + rank); tie-aware as mAP, over the whole database; "
        "DCG is divided by that of the best order",
        None,
    ),
    Metric(
        "coarse_map",
        "mAP@all, superclasses",
        "share of 1",
        "up",
        "mAP@all, superclasses: as mAP@all, but relevant is what shares the superclass of "
        "the query, which no method was told",
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
            Maybe `query_coarse_labels` (Q,) and `database_coarse_labels` (N,).
        bits: code length of all encodings but those that have `bits_E`.
    """
    values = _judge(arrays, bits, "labels")
    if "query_coarse_labels" in arrays:
        for name, own in _judge(arrays, bits, "coarse_labels").items():
            values[name]["coarse_map"] = own["map"]
    return values


def _judge(
    arrays: dict[str, np.ndarray], bits: int, by: str
) -> dict[str, dict[str, float]]:
    q_labels, r_labels = (
        torch.from_numpy(arrays[f"{part}_{by}"]) for part in ("query", "database")
    )
    names = [name.removeprefix("query_") for name in arrays if name.startswith("query_")]
    values = {}
    for name in (name for name in names if not name.endswith("labels")):
        query, database = (
            torch.from_numpy(arrays[f"{part}_{name}"]) for part in ("query", "database")
        )
        if query.dtype == torch.uint8:
            own = int(arrays.get(f"bits_{name}", bits))
            values[name] = _judge_codes(query, database, q_labels, r_labels, own)
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
    """Rank by cosine; equal ones, which are rare, all stand at the last of their places."""
    similarity = (normalize(query) @ normalize(database).T).numpy()
    labels = (each.numpy().astype(np.float64) for each in (q_labels, r_labels))
    values = _by_cosine(similarity, *labels)
    return {name: float(torch.tensor(each).nanmean()) for name, each in values.items()}


def _by_cosine(
    similarity: np.ndarray, q_labels: np.ndarray, r_labels: np.ndarray
) -> dict[str, list[float]]:
    """Judge query by query: sorting values alone is far quicker than sorting items."""
    several = q_labels.ndim == 2
    found: dict[str, list[float]] = {"map": [], "ndcg": []} if several else {"map": []}
    for row, labels in zip(similarity, q_labels, strict=True):
        gains = r_labels @ labels if several else (r_labels == labels).astype(np.float64)
        relevant = np.flatnonzero(gains)
        if not len(relevant):  # such a query cannot be judged
            for values in found.values():
                values.append(np.nan)
            continue
        relevant = relevant[np.argsort(row[relevant])]
        own, gains = row[relevant], gains[relevant]
        ranks = len(row) - np.searchsorted(np.sort(row), own)
        hits = len(own) - np.searchsorted(own, own)
        found["map"].append(float((hits / ranks).mean()))
        if several:
            best = np.sort(gains)[::-1] @ (1 / np.log2(2 + np.arange(len(gains))))
            found["ndcg"].append(float(gains @ (1 / np.log2(1 + ranks)) / best))
    return found


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
