"""The names of metrics, with any k and any radius in them, and what they compute."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..hamming.distinct import distinct_codes
from ..hamming.exclusion import Exclude
from ..hamming.histograms import MAX_BYTES, grade_histograms, hamming_histograms
from ..labels.relevance import Relevance
from ..merging.bit_statistics import bit_statistics
from ..ranking.at_r import tie_aware_map_at_r
from ..ranking.average_precision import Normalizer, tie_aware_average_precision
from ..ranking.conventional import conventional_average_precision
from ..ranking.cut_off import precision_at_k, recall_at_k
from ..ranking.graded import tie_aware_acg, tie_aware_wap
from ..ranking.hit_rate import hit_rate_at_k
from ..ranking.ndcg import tie_aware_ndcg
from ..ranking.radius import f1_within_radius, precision_within_radius, recall_within_radius
from ..ranking.reciprocal_rank import tie_aware_reciprocal_rank
from ..ranking.tied import tied_at_k

_ap = tie_aware_average_precision
_best, _worst = partial(_ap, tie_order="best"), partial(_ap, tie_order="worst")
# Functions of (items, hits); those in AT_K of (items, hits, k).
_PLAIN: dict[str, Callable[..., Tensor]] = {
    "hamming_map": _ap,
    "hamming_map_best": _best,
    "hamming_map_worst": _worst,
    "hamming_mrr": tie_aware_reciprocal_rank,
    "hamming_map_at_r": tie_aware_map_at_r,
}
_AT_K: dict[str, Callable[..., Tensor]] = {
    "hamming_map": _ap,
    "hamming_map_best": _best,
    "hamming_map_worst": _worst,
    "hamming_precision": precision_at_k,
    "hamming_recall": recall_at_k,
    "hamming_hit_rate": hit_rate_at_k,
    "hamming_tied": lambda items, hits, k: tied_at_k(items, k),
}
_NORMALIZED = ("hamming_map", "hamming_map_best", "hamming_map_worst")
_WITHIN = {
    "precision": precision_within_radius,
    "recall": recall_within_radius,
    "f1": f1_within_radius,
}
_OF_GRADES: dict[str, Callable[..., Tensor]] = {
    "hamming_ndcg": tie_aware_ndcg,
    "hamming_acg": tie_aware_acg,
    "hamming_wap": tie_aware_wap,
}
_LISTED = "hamming_map_conventional"
OF_BITS = ("bit_imbalance", "bit_entropy", "bit_correlation", "bit_importance_gini")
OF_DATABASE = (*OF_BITS, "distinct_codes")
"""Metrics that are one number of the database, not one a query."""

_ORDERS = ("_best", "_worst", "_conventional")
_NAME = re.compile(r"(hamming_\w+?)_at_(k|[1-9]\d*)(_best|_worst|_conventional)?")
_RECALL = re.compile(r"Recall@(K|[1-9]\d*)")
_RADIUS = re.compile(r"(precision|recall|f1)_at_radius_(\d+)")


def _with_k(stem: str) -> str:
    for order in _ORDERS:
        if stem.endswith(order):
            return f"{stem.removesuffix(order)}_at_k{order}"
    return f"{stem}_at_k"


HAMMING_METRICS = (
    *_PLAIN,
    *(_with_k(stem) for stem in _AT_K),
    *(f"{name}_at_radius_{radius}" for radius in range(4) for name in _WITHIN),
    *(
        name
        for stem in _OF_GRADES
        for name in (stem, _with_k(stem))
        if stem != "hamming_acg"
    ),
    _with_k("hamming_acg"),
    *(_LISTED, _with_k(_LISTED)),
    *OF_DATABASE,
)
"""Names of all metrics that need no list of neighbours; k and radius may be any number."""


class Metric(NamedTuple):
    """What a name means.

    Fields:
        stem: name without k or radius.
        needs: "histograms", "grades", "lists" or "database".
        k: the number in the name; None where it has no k; "k" where it says so.
        radius: the number in the name, or None.
    """

    stem: str
    needs: str
    k: int | str | None = None
    radius: int | None = None


def parse_metric(name: str) -> Metric | None:
    """Read the name of a metric; None for one that is not of this package.

    Args:
        name: such as "hamming_map_at_100", "Recall@10", "precision_at_radius_5".
    """
    if name in OF_DATABASE:
        return Metric(name, "database")
    if name in _PLAIN:
        return Metric(name, "histograms")
    if name in ("hamming_ndcg", "hamming_wap"):
        return Metric(name, "grades")
    if name == _LISTED:
        return Metric(name, "lists")
    if found := _RADIUS.fullmatch(name):
        return Metric(found[1], "histograms", radius=int(found[2]))
    if found := _RECALL.fullmatch(name):
        return Metric("hamming_hit_rate", "histograms", _number(found[1]))
    if found := _NAME.fullmatch(name):
        stem, k = found[1] + (found[3] or ""), _number(found[2])
        for needs, known in (
            ("histograms", tuple(_AT_K)),
            ("grades", tuple(_OF_GRADES)),
            ("lists", (_LISTED,)),
        ):
            if stem in known:
                return Metric(stem, needs, k)
    return None


def _number(k: str) -> int | str:
    return "k" if k in ("k", "K") else int(k)


def at_each_k(names: Iterable[str], ks: Sequence[int]) -> list[str]:
    """Write out names that end in k for several k, as "hamming_map_at_10".

    Args:
        names: of metrics.
        ks: numbers; with a single one names stay as they are.
    """
    if len(ks) < 2:
        return list(names)
    found: list[str] = []
    for name in names:
        metric = parse_metric(name)
        if metric is None or metric.k != "k":
            found.append(name)
        elif name.startswith("Recall@"):
            found += [f"Recall@{k}" for k in ks]
        else:
            found += [name.replace("_at_k", f"_at_{k}") for k in ks]
    return found


def measure(
    names: Iterable[str],
    query: Tensor,
    query_labels: Tensor,
    reference: Tensor,
    reference_labels: Tensor,
    *,
    ref_includes_query: bool = False,
    bits: int | None = None,
    max_bytes: int = MAX_BYTES,
    query_start: int = 0,
    relevance: Relevance | None = None,
    grades: int | None = None,
    exclude: Exclude | None = None,
    k: int | None = None,
    normalizer: Normalizer = "retrieved",
) -> dict[str, Any]:
    """Compute metrics of one evaluation; what several share is computed once.

    Args:
        names: of metrics, see `parse_metric`.
        query: as `hamming.hamming_histograms`, and so are all others to `exclude`.
        query_labels: of the queries.
        reference: the database.
        reference_labels: of the database.
        ref_includes_query: the database holds the queries.
        bits: of packed codes.
        max_bytes: budget.
        query_start: where the queries are in the database.
        relevance: grades of one's own.
        grades: their number.
        exclude: pairs to leave out.
        k: of names that end in k.
        normalizer: of mAP at k.

    Returns:
        Name -> (Q,) values, NaN without relevant items; a number for `OF_DATABASE`.
    """
    wanted = {name: parse_metric(name) for name in names}
    metrics = {name: metric for name, metric in wanted.items() if metric is not None}
    needs = {metric.needs for metric in metrics.values()}
    sides = query, query_labels, reference, reference_labels
    common: dict[str, Any] = {
        "ref_includes_query": ref_includes_query,
        "bits": bits,
        "max_bytes": max_bytes,
        "query_start": query_start,
        "relevance": relevance,
        "exclude": exclude,
    }
    known: dict[str, Any] = {}
    if "histograms" in needs:
        known["histograms"] = hamming_histograms(*sides, **common)
    if "grades" in needs:
        known["grades"] = grade_histograms(*sides, grades=grades, **common)
    if any(name in OF_BITS for name in metrics):
        asked = reference_labels if "bit_importance_gini" in metrics else None
        known["bits"] = bit_statistics(reference, asked, bits=bits).summary()
    values: dict[str, Any] = {}
    for name, metric in metrics.items():
        at: Any = k if metric.k == "k" else metric.k
        if name in OF_BITS:
            values[name] = known["bits"][name]
        elif name == "distinct_codes":
            values[name] = float(distinct_codes(reference, bits=bits))
        elif metric.needs == "grades":
            values[name] = _OF_GRADES[metric.stem](known["grades"], at)
        elif metric.needs == "lists":
            values[name] = conventional_average_precision(
                *sides, k=at, normalizer=normalizer, **common
            )
        else:
            items, hits = known["histograms"]
            values[name] = _of_histograms(metric, items, hits, at, normalizer)
    return values


def _of_histograms(
    metric: Metric, items: Tensor, hits: Tensor, k: Any, normalizer: Normalizer
) -> Tensor:
    if metric.radius is not None:
        values = _WITHIN[metric.stem](items, hits, metric.radius)
        return torch.where(hits.sum(1) > 0, values, torch.nan)
    if metric.k is None:
        return _PLAIN[metric.stem](items, hits)
    options = {"normalizer": normalizer} if metric.stem in _NORMALIZED else {}
    return _AT_K[metric.stem](items, hits, k, **options)
