"""From stored arrays to metrics.

A method is never asked how well it does. Distances are computed here, from what is stored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pml_nmlayer.codes import unpack_codes
from pml_nmlayer.hamming import distinct_codes, hamming_histograms
from pml_nmlayer.labels import shared_label
from pml_nmlayer.ranking import ndcg, recall_at_k, tie_aware_average_precision

from ..interface import ASYMMETRIC, NEIGHBOURS
from .metrics import METRICS, PerQuery
from .score_histograms import score_histograms, scored_blocks

# of real queries: what tables show beside the symmetric value
_ASYMMETRIC = ("map", "recall_at_1", "map_at_r", "p_at_10")


@dataclass(frozen=True)
class Sides:
    """Queries and database as they are stored, and a way to rank.

    Args:
        query: packed codes (Q, B) uint8, or vectors (Q, D) float32.
        database: the same of N items.
        bits: length of the codes.
        cosine: compare vectors by their cosine, not by inner product.
    """

    query: Tensor
    database: Tensor
    bits: int
    cosine: bool = False

    @property
    def of_codes(self) -> bool:
        return self.query.dtype == torch.uint8

    def per_query(
        self, functions: Mapping[str, PerQuery], relevance: "Relevance"
    ) -> dict[str, Tensor]:
        """Compute functions of histograms for each query."""
        if self.of_codes:
            items, hits = hamming_histograms(
                self.query,
                relevance.query,
                self.database,
                relevance.database,
                bits=self.bits,
                relevance=relevance.rule,
            )
            return {name: f(items, hits) for name, f in functions.items()}
        found: dict[str, list[Tensor]] = {name: [] for name in functions}
        sides = self.query, self.database
        if self.cosine:
            sides = normalize(self.query), normalize(self.database)
        for rows, scores in scored_blocks(*sides):
            items, hits = score_histograms(scores, relevance.of(rows))
            for name, function in functions.items():
                found[name].append(function(items, hits))
        return {name: torch.cat(parts) for name, parts in found.items()}

    def distinct(self) -> int:
        """Count the distinct codes of the database."""
        if self.of_codes:
            return distinct_codes(self.database, bits=self.bits)
        return len(np.unique(self.database.numpy(), axis=0))


@dataclass(frozen=True)
class Relevance:
    """Who is relevant to whom: labels of both sides, and a rule of `hamming_histograms`."""

    query: Tensor
    database: Tensor
    rule: Callable[[Tensor, Tensor], Tensor] | None = None

    def of(self, rows: slice) -> Tensor:
        """Tell it of some queries: (q, N) bool."""
        rule = shared_label if self.rule is None else self.rule
        return rule(self.query[rows], self.database).bool()


def judge(arrays: dict[str, np.ndarray], bits: int) -> dict[str, dict[str, float]]:
    """Compute every metric from the raw arrays of one run, by encoding.

    Args:
        arrays: labels `query_labels` (Q,) and `database_labels` (N,), or multi-hot rows
            (Q, C) and (N, C); and of each encoding E, `query_E` and `database_E`: packed
            codes (Q, B) and (N, B), uint8, or vectors (Q, D) and (N, D), float32, of which
            `float` is compared by cosine and others by inner product. `query_E.asymmetric`
            (Q, D) asks `database_E.asymmetric`, or else the codes of E.
            Maybe `query_coarse_labels` (Q,) and `database_coarse_labels` (N,);
            `training_labels` and `training_E`, of items to search as well;
            `query_is_unseen` (Q,) bool; `query_neighbours` (Q, 10), the items that are
            nearest by the features; `stored_bits_E` of an item in an index.
        bits: code length of all encodings but those that have `bits_E`.
    """
    values = {}
    for name in _encodings(arrays):
        sides = _sides(arrays, name, bits)
        values[name] = _judge(arrays, sides)
        values[name] |= _judge_asymmetric(arrays, name, sides)
        if f"training_{name}" in arrays:
            values[name]["map_with_training"] = _with_training(arrays, name, sides)
        values[name]["stored_bits"] = float(_stored_bits(arrays, name, sides))
    return values


def _encodings(arrays: Mapping[str, np.ndarray]) -> list[str]:
    names = [n.removeprefix("database_") for n in arrays if n.startswith("database_")]
    return [n for n in names if n != "ids" and not n.endswith(("labels", ASYMMETRIC))]


def _sides(arrays: Mapping[str, np.ndarray], name: str, bits: int) -> Sides:
    query, database = (
        torch.from_numpy(arrays[f"{part}_{name}"]) for part in ("query", "database")
    )
    return Sides(query, database, int(arrays.get(f"bits_{name}", bits)), name == "float")


def _stored_bits(arrays: Mapping[str, np.ndarray], name: str, sides: Sides) -> int:
    for each in (name, f"{name}{ASYMMETRIC}"):
        if f"stored_bits_{each}" in arrays:
            return int(arrays[f"stored_bits_{each}"])
    return sides.bits if sides.of_codes else 32 * sides.database.shape[1]


def _labels(arrays: Mapping[str, np.ndarray], kind: str = "labels") -> Relevance:
    query, database = (
        torch.from_numpy(arrays[f"{part}_{kind}"]) for part in ("query", "database")
    )
    return Relevance(query, database)


def _judge(arrays: Mapping[str, np.ndarray], sides: Sides) -> dict[str, float]:
    functions = {
        metric.name: metric.per_query
        for metric in (METRICS[name] for name in METRICS)
        if metric.per_query is not None and (metric.of_scores or sides.of_codes)
    }
    relevance = _labels(arrays)
    each = sides.per_query(functions, relevance)
    unseen = arrays.get("query_is_unseen")
    values = {name: _mean(found, unseen) for name, found in each.items()}
    if unseen is not None:
        values["seen_map"] = float(each["map"][~unseen].nanmean())
        values["unseen_map"] = float(each["map"][unseen].nanmean())
    only_map: dict[str, PerQuery] = {"map": tie_aware_average_precision}
    if "query_coarse_labels" in arrays:
        coarse = sides.per_query(only_map, _labels(arrays, "coarse_labels"))
        values["coarse_map"] = float(coarse["map"].nanmean())
    if relevance.query.ndim == 2:
        values["ndcg"] = _ndcg(sides, relevance)
    values |= _judge_neighbours(arrays, sides)
    values["distinct_codes"] = float(sides.distinct())
    return values


def _mean(values: Tensor, unseen: np.ndarray | None) -> float:
    """Average over queries; with two groups of them, take the harmonic mean of both."""
    if unseen is None:
        return float(values.nanmean())
    both = [float(values[~unseen].nanmean()), float(values[unseen].nanmean())]
    return 2 * both[0] * both[1] / sum(both) if sum(both) else 0.0


def _judge_neighbours(arrays: Mapping[str, np.ndarray], sides: Sides) -> dict[str, float]:
    if "query_neighbours" not in arrays:
        return {}
    nearest = torch.from_numpy(arrays["query_neighbours"])
    rows = torch.zeros(len(nearest), len(sides.database), dtype=torch.uint8)
    rows.scatter_(1, nearest.long(), 1)
    relevance = Relevance(
        torch.arange(len(nearest)),
        torch.arange(len(sides.database)),
        lambda q, r: rows[q][:, r],
    )
    functions: dict[str, PerQuery] = {
        f"neighbours_in_{k}": partial(recall_at_k, k=k) for k in (NEIGHBOURS, 100)
    }
    each = sides.per_query(functions, relevance)
    return {name: float(found.nanmean()) for name, found in each.items()}


def _judge_asymmetric(
    arrays: Mapping[str, np.ndarray], name: str, sides: Sides
) -> dict[str, float]:
    if f"query_{name}{ASYMMETRIC}" not in arrays:
        return {}
    query = torch.from_numpy(arrays[f"query_{name}{ASYMMETRIC}"])
    stored = arrays.get(f"database_{name}{ASYMMETRIC}")
    codes = unpack_codes(sides.database, sides.bits) if sides.of_codes else sides.database
    database = codes.float() if stored is None else torch.from_numpy(stored)
    functions = {each: METRICS[each].per_query for each in _ASYMMETRIC}
    each = Sides(query, database, 0).per_query(functions, _labels(arrays))  # type: ignore[arg-type]
    unseen = arrays.get("query_is_unseen")
    return {f"asymmetric_{key}": _mean(found, unseen) for key, found in each.items()}


def _with_training(arrays: Mapping[str, np.ndarray], name: str, sides: Sides) -> float:
    """Search the items that were trained on as well."""
    more, labels = (torch.from_numpy(arrays[f"training_{n}"]) for n in (name, "labels"))
    whole = replace(sides, database=torch.cat([sides.database, more]))
    own = _labels(arrays)
    relevance = replace(own, database=torch.cat([own.database, labels]))
    each = whole.per_query({"map": tie_aware_average_precision}, relevance)
    return _mean(each["map"], None)


def _ndcg(sides: Sides, relevance: Relevance) -> float:
    q, r = relevance.query, relevance.database
    if sides.of_codes:
        return ndcg(sides.query, q, sides.database, r, gain="linear", bits=sides.bits)
    values = []
    vectors = sides.query, sides.database
    if sides.cosine:
        vectors = normalize(sides.query), normalize(sides.database)
    for rows, scores in scored_blocks(*vectors):
        gains = q[rows].double() @ r.double().T
        values += [
            _ndcg_of(*row) for row in zip(scores.numpy(), gains.numpy(), strict=True)
        ]
    return float(np.nanmean(values))


def _ndcg_of(scores: np.ndarray, gains: np.ndarray) -> float:
    """Judge one ranking: each item has the mean discount of its tie."""
    if not gains.any():
        return np.nan
    discounts = 1 / np.log2(2 + np.arange(len(gains)))
    _, tie, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    upto = np.concatenate([[0], discounts.cumsum()])[np.concatenate([[0], sizes.cumsum()])]
    best = np.sort(gains)[::-1] @ discounts
    return float(gains @ (np.diff(upto) / sizes)[tie] / best)
