"""The metric table: what a report can say about stored codes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from pml_nmlayer.ranking import (
    precision_at_k,
    precision_within_radius,
    tie_aware_average_precision,
    tie_aware_map_at_r,
    tied_at_k,
)

from ..registry import Registry

PerQuery = Callable[[Tensor, Tensor], Tensor]


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
            query that cannot be judged. None: made of something else than labels and
            distances, which not every data set or method has.
        published: whether it is kept in the summaries that are published.
        of_scores: whether it is computed of rankings by real scores, too.
    """

    name: str
    label: str
    unit: str
    better: Literal["up", "down"]
    rule: str
    per_query: PerQuery | None = None
    published: bool = True
    of_scores: bool = True

    @property
    def sentence(self) -> str:
        """The rule as a sentence of its own."""
        return f"{self.rule[0].upper()}{self.rule[1:]}."


METRICS: Registry[Metric] = Registry("metric")
_SHARE = "share of 1"
for _metric in (
    Metric(
        "map",
        "mAP@all",
        _SHARE,
        "up",
        "tie-aware mAP@all: the expectation of average precision over all orders of items "
        "at equal Hamming distance, over the whole database; mean over the queries; AP is "
        "divided by the number of relevant items (as by every normaliser @all)",
        tie_aware_average_precision,
    ),
    Metric(
        "recall_at_1",
        "Recall@1",
        _SHARE,
        "up",
        "Recall@1: whether the nearest item is relevant, in expectation over ties",
        lambda items, hits: precision_at_k(items, hits, 1),
    ),
    Metric(
        "map_at_r",
        "mAP@R",
        _SHARE,
        "up",
        "mAP@R, as PML defines it: as many ranks as the query has relevant items, "
        "divided by their number; in expectation over ties",
        tie_aware_map_at_r,
    ),
    Metric(
        "p_at_10",
        "P@10",
        _SHARE,
        "up",
        "P@10: relevant share of the first ten, in expectation over ties",
        lambda items, hits: precision_at_k(items, hits, 10),
        published=False,
    ),
    Metric(
        "top10_tied",
        "top 10 tied",
        _SHARE,
        "down",
        "top 10 tied: share of the queries whose ten nearest all lie at one distance, so "
        "that their order is chance",
        lambda items, hits: tied_at_k(items, 10),
        published=False,
    ),
    Metric(
        "p_at_radius_2",
        "P@r≤2",
        _SHARE,
        "up",
        "P@r≤2: relevant share of the items within Hamming radius 2 (inclusive, so ties "
        "play no part); a query that finds none counts 0",
        lambda items, hits: precision_within_radius(items, hits, radius=2),
        published=False,
        of_scores=False,
    ),
    Metric(
        "ndcg",
        "NDCG@all",
        _SHARE,
        "up",
        "NDCG@all: the gain of an item is the number of labels that it shares with the "
        "query, its discount log2(1 + rank); tie-aware as mAP, over the whole database; "
        "DCG is divided by that of the best order",
    ),
    Metric(
        "coarse_map",
        "mAP@all, superclasses",
        _SHARE,
        "up",
        "mAP@all, superclasses: as mAP@all, but relevant is what shares the superclass of "
        "the query, which no method was told",
    ),
    Metric(
        "seen_map",
        "mAP@all, seen",
        _SHARE,
        "up",
        "mAP@all, seen: of the queries whose class was trained on",
    ),
    Metric(
        "unseen_map",
        "mAP@all, unseen",
        _SHARE,
        "up",
        "mAP@all, unseen: of the queries whose class was not trained on; every other "
        "metric of this data set is the harmonic mean of its two means, over queries of "
        "seen and of unseen classes",
    ),
    Metric(
        "map_with_training",
        "mAP@all, training items in it",
        _SHARE,
        "up",
        "mAP@all, training items in it: of the database together with the items that were "
        "trained on",
    ),
    Metric(
        "neighbours_in_10",
        "float's 10 in 10",
        _SHARE,
        "up",
        "float's 10 in 10: share of the ten nearest items by cosine of the features that "
        "are among the first ten, in expectation over ties",
    ),
    Metric(
        "neighbours_in_100",
        "float's 10 in 100",
        _SHARE,
        "up",
        "float's 10 in 100: the same among the first hundred",
    ),
    Metric(
        "asymmetric_map",
        "mAP@all, asymmetric",
        _SHARE,
        "up",
        "asymmetric: real queries ask stored codes, by inner product or squared distance; "
        "equal scores are ties",
    ),
    Metric(
        "asymmetric_recall_at_1",
        "Recall@1, asymmetric",
        _SHARE,
        "up",
        "Recall@1, asymmetric: as both say",
    ),
    Metric(
        "asymmetric_map_at_r",
        "mAP@R, asymmetric",
        _SHARE,
        "up",
        "mAP@R, asymmetric: as both say",
        published=False,
    ),
    Metric(
        "asymmetric_p_at_10",
        "P@10, asymmetric",
        _SHARE,
        "up",
        "P@10, asymmetric: as both say",
        published=False,
    ),
    Metric(
        "distinct_codes",
        "distinct codes",
        "codes",
        "up",
        "distinct codes: of the database",
        published=False,
    ),
    Metric(
        "stored_bits",
        "bits an item",
        "bits",
        "down",
        "bits an item: what an index keeps of it, side information included",
        published=False,
    ),
):
    METRICS.add(_metric.name, _metric)


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
