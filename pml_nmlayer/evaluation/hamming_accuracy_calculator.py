"""PML's AccuracyCalculator for binary codes."""

from collections.abc import Callable, Sequence
from functools import partial, partialmethod
from typing import Any, get_args

import torch
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils.accuracy_calculator import (
    AccuracyCalculator,
    maybe_get_avg_of_avgs,
)
from torch import Tensor

from ..codes.convention import binarize
from ..hamming.histograms import MAX_BYTES, grade_histograms, hamming_histograms
from ..merging.bit_statistics import bit_statistics
from ..ranking.average_precision import Normalizer, tie_aware_average_precision
from ..ranking.conventional import conventional_average_precision
from ..ranking.cut_off import precision_at_k, recall_at_k
from ..ranking.ndcg import tie_aware_ndcg
from ..ranking.queries import Empty
from ..ranking.radius import f1_within_radius, precision_within_radius, recall_within_radius
from ..ranking.reciprocal_rank import tie_aware_reciprocal_rank
from .hamming_knn import HammingKNN

_ap = tie_aware_average_precision
PerQuery = Callable[..., Tensor]
_Data = tuple[Tensor, Tensor, Tensor, Tensor, bool]  # as get_accuracy takes them

# What each metric is, of a query's histograms; `k` and `normalizer` are the calculator's.
_OF_HISTOGRAMS: dict[str, PerQuery] = {
    "hamming_map": lambda items, hits, **_: _ap(items, hits),
    "hamming_map_best": lambda items, hits, **_: _ap(items, hits, tie_order="best"),
    "hamming_map_worst": lambda items, hits, **_: _ap(items, hits, tie_order="worst"),
    "hamming_map_at_k": lambda items, hits, k, normalizer: _ap(items, hits, k, normalizer),
    "hamming_map_at_k_best": lambda items, hits, k, normalizer: _ap(
        items, hits, k, normalizer, "best"
    ),
    "hamming_map_at_k_worst": lambda items, hits, k, normalizer: _ap(
        items, hits, k, normalizer, "worst"
    ),
    "hamming_mrr": lambda items, hits, **_: tie_aware_reciprocal_rank(items, hits),
    "hamming_precision_at_k": lambda items, hits, k, **_: precision_at_k(items, hits, k),
    "hamming_recall_at_k": lambda items, hits, k, **_: recall_at_k(items, hits, k),
}
for _radius in range(4):
    for _name, _metric in (
        ("precision", precision_within_radius),
        ("recall", recall_within_radius),
        ("f1", f1_within_radius),
    ):
        _OF_HISTOGRAMS[f"{_name}_at_radius_{_radius}"] = partial(
            lambda items, hits, metric, radius, **_: metric(items, hits, radius),
            metric=_metric,
            radius=_radius,
        )
_OF_GRADES = ("hamming_ndcg", "hamming_ndcg_at_k")
_OF_LISTS = ("hamming_map_conventional", "hamming_map_at_k_conventional")
_OF_BITS = ("bit_imbalance", "bit_entropy", "bit_correlation", "bit_importance_gini")

HAMMING_METRICS = (*_OF_HISTOGRAMS, *_OF_GRADES, *_OF_LISTS, *_OF_BITS)
"""Names of all metrics that need no list of neighbours."""

DEFAULT_METRICS = (
    "hamming_map",
    "hamming_map_at_k",
    "precision_at_radius_2",
    "recall_at_radius_2",
)
_NEED_K = tuple(name for name in HAMMING_METRICS if "_at_k" in name)


class HammingAccuracyCalculator(AccuracyCalculator):
    r"""Judge binary codes inside PML's testers and HookContainer.

    Embeddings are binarised (sign(0) = +1), so it does not matter whether a tester
    normalises them. The metrics come from integer distances and are averaged over all
    orders of tied items; they need no list of neighbours and bounded memory.

    Metrics:  hamming_map, hamming_map_best, hamming_map_worst: mAP@all, in expectation over
              all orders of ties, and for the best and worst of them; hamming_map_at_k,
              hamming_map_at_k_best, hamming_map_at_k_worst: mAP@k.
              hamming_map_conventional, hamming_map_at_k_conventional: ties in database
              order, for comparison with papers; these two sort, and take longer.
              hamming_precision_at_k, hamming_recall_at_k; hamming_mrr: 1 / rank of the
              first relevant item; hamming_ndcg, hamming_ndcg_at_k.
              precision_at_radius_r, recall_at_radius_r, f1_at_radius_r for r = 0, 1, 2, 3:
              within r bits, inclusive; 0 precision where nothing is that near.
              bit_imbalance, bit_entropy, bit_correlation, bit_importance_gini: of the
              database, see `bit_statistics.BitStatistics`.
              All metrics of PML's own calculator can be named in `include`; they then run
              on the codes with `HammingKNN` (ties by index), under PML's definitions.
              A precision-recall curve is no number: see `ranking.precision_recall_curve`.

    Args:
        include: metrics to compute; empty for hamming_map, hamming_map_at_k (with a k),
            precision_at_radius_2 and recall_at_radius_2. `HAMMING_METRICS` are all.
        exclude: metrics to leave out.
        k: ranks of the metrics at k and of PML's knn metrics; as in PML, None for all or
            "max_bin_count".
        normalizer: denominator of mAP@k, see `ranking`.
        empty: a query with no relevant item is left out ("skip", as in PML) or counts 0
            ("zero").
        max_bytes: bound on memory beyond the codes, see `hamming`.
        kwargs: PML's avg_of_avgs, return_per_class, device, knn_func, kmeans_func.

    Shapes:   get_accuracy takes query (Q, K), reference (N, K) as arrays or tensors, and
              labels as class ids (Q,), (N,) or multi-hot rows (Q, C), (N, C).
    Returns:  dict of metric names and floats (lists with return_per_class, but for the
              metrics of bits). NaN if no query has a relevant item.
    Raises:   ValueError: NaN embeddings, labels that do not fit, an unknown metric,
              normalizer or empty, a metric at k without an integer k.
              NotImplementedError: a label_comparison_fn (pass multi-hot labels instead), or
              PML's own metrics and averages per class on multi-hot labels.
    Source:   pytorch-metric-learning, AccuracyCalculator; `ranking`.
              Differs: PML breaks ties by index order and divides mAP@k by all relevant
              items; it rounds labels to float32, which merges class ids above 2^24.
    """

    def __init__(
        self,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        k: int | str | None = None,
        normalizer: Normalizer = "retrieved",
        empty: Empty = "skip",
        max_bytes: int = MAX_BYTES,
        **kwargs: Any,
    ) -> None:
        if kwargs.pop("label_comparison_fn", None) is not None:
            raise NotImplementedError(
                "label_comparison_fn is not supported: two items are relevant to each "
                "other if they share a label; pass multi-hot labels (N, C)"
            )
        for name, value, known in (
            ("normalizer", normalizer, get_args(Normalizer)),
            ("empty", empty, get_args(Empty)),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
        if len(include) == 0:
            include = [m for m in DEFAULT_METRICS if m not in _NEED_K or _is_int(k)]
        kwargs.setdefault("knn_func", HammingKNN())
        super().__init__(include=tuple(include), exclude=tuple(exclude), k=k, **kwargs)
        self.normalizer = normalizer
        self.empty = empty
        self.max_bytes = max_bytes
        needs_k = [name for name in self.get_curr_metrics() if name in _NEED_K]
        if needs_k and not _is_int(k):
            raise ValueError(f"{', '.join(needs_k)} needs an integer k, got k={k!r}")

    def get_accuracy(
        self,
        query: Any,
        query_labels: Any,
        reference: Any = None,
        reference_labels: Any = None,
        ref_includes_query: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Compute the metrics; arguments as in PML.

        Args:
            query: embeddings or codes of the queries.
            query_labels: their labels.
            reference: embeddings or codes of the database; the queries if None.
            reference_labels: their labels.
            ref_includes_query: the database begins with the queries.
            include: a subset of the metrics of this calculator.
            exclude: metrics to leave out.
        """
        if reference is None:
            reference, reference_labels = query, query_labels
            ref_includes_query = True
        query, query_labels, reference, reference_labels = (
            c_f.numpy_to_torch(x).to(self.device)
            for x in (query, query_labels, reference, reference_labels)
        )
        query, reference = binarize(query.float()), binarize(reference.float())
        self.check_primary_metrics(tuple(include), tuple(exclude))
        wanted = self.get_function_dict(include, exclude)
        ours = {name: f for name, f in wanted.items() if name in HAMMING_METRICS}
        theirs = [name for name in wanted if name not in HAMMING_METRICS]
        data = (query, query_labels, reference, reference_labels, ref_includes_query)
        known = self._measure(ours, data)
        result = self._get_accuracy(ours, known=known, query_labels=query_labels)
        if theirs:
            if query_labels.ndim != 1:
                raise NotImplementedError(
                    f"{', '.join(theirs)}: PML's metrics take class ids of shape (N,) only"
                )
            result |= super().get_accuracy(*data, tuple(theirs))
        self.curr_function_dict = wanted
        return result

    def _measure(self, wanted: dict[str, Any], data: _Data) -> dict[str, Any]:
        """What several metrics share, each computed if one of them is asked for."""
        known: dict[str, Any] = {"data": data}
        q, q_labels, r, r_labels, includes = data
        sides = (q, q_labels, r, r_labels)
        if any(name in _OF_GRADES for name in wanted):
            known["counts"] = grade_histograms(*sides, includes, max_bytes=self.max_bytes)
        if any(name in _OF_HISTOGRAMS for name in wanted):
            known["histograms"] = hamming_histograms(
                *sides, includes, max_bytes=self.max_bytes
            )
        if any(name in _OF_BITS for name in wanted):
            asked = r_labels if "bit_importance_gini" in wanted else None
            known["bits"] = bit_statistics(r, asked).summary()
        return known

    def _calculate(self, name: str, known: dict[str, Any], query_labels: Tensor) -> Any:
        if name in _OF_BITS:
            return known["bits"][name]
        k = self.k if name in _NEED_K else None
        if name in _OF_GRADES:
            values = tie_aware_ndcg(known["counts"], k)
        elif name in _OF_LISTS:
            q, q_labels, r, r_labels, includes = known["data"]
            values = conventional_average_precision(
                q, q_labels, r, r_labels, k, self.normalizer, includes,
                max_bytes=self.max_bytes,
            )  # fmt: skip
        else:
            items, hits = known["histograms"]
            metric = _OF_HISTOGRAMS[name]
            values = metric(items, hits, k=k, normalizer=self.normalizer)
            values = torch.where(hits.sum(1) > 0, values, torch.nan)
        return self._average(values, query_labels)

    def _average(self, values: Tensor, query_labels: Tensor) -> Any:
        if self.empty == "zero":
            values = values.nan_to_num(nan=0.0)
        judged = ~values.isnan()
        per_class = self.avg_of_avgs or self.return_per_class
        if per_class and query_labels.ndim != 1:
            raise NotImplementedError("averages per class need class ids of shape (N,)")
        if not bool(judged.any()):
            classes = len(query_labels.unique()) if self.return_per_class else 0
            return [float("nan")] * classes if self.return_per_class else float("nan")
        return maybe_get_avg_of_avgs(
            values[judged],
            query_labels[judged][:, None] if per_class else None,
            self.avg_of_avgs,
            self.return_per_class,
        )


# PML finds metrics by the names of methods.
for _name in HAMMING_METRICS:
    _method = partialmethod(HammingAccuracyCalculator._calculate, _name)
    setattr(HammingAccuracyCalculator, f"calculate_{_name}", _method)


def _is_int(k: Any) -> bool:
    return isinstance(k, int) and not isinstance(k, bool)
