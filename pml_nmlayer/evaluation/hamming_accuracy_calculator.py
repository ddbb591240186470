"""PML's AccuracyCalculator for binary codes."""

from collections.abc import Sequence
from functools import partial, partialmethod
from typing import Any, get_args

import torch
from pytorch_metric_learning.utils.accuracy_calculator import (
    AccuracyCalculator,
    maybe_get_avg_of_avgs,
)
from torch import Tensor

from ..codes.convention import binarize
from ..codes.outputs import check_outputs
from ..hamming.exclusion import Exclude
from ..hamming.histograms import MAX_BYTES
from ..labels.checks import as_labels, check_labels
from ..labels.columns import check_not_a_column
from ..labels.relevance import Relevance
from ..ranking.average_precision import Normalizer
from ..ranking.by_class import mean_by_class
from ..ranking.queries import Empty
from ..runtime.options import check_choice, check_count, check_flag
from .hamming_knn import HammingKNN
from .metrics_by_name import HAMMING_METRICS as HAMMING_METRICS
from .metrics_by_name import OF_DATABASE, at_each_k, measure, parse_metric

DEFAULT_METRICS = (
    "hamming_map",
    "hamming_map_at_k",
    "precision_at_radius_2",
    "recall_at_radius_2",
)


class HammingAccuracyCalculator(AccuracyCalculator):
    r"""Judge binary codes inside PML's testers and HookContainer.

    Embeddings are binarised (sign(0) = +1), so it does not matter whether a tester
    normalises them. The metrics come from integer distances and are averaged over all
    orders of tied items; they need no list of neighbours and bounded memory.

    Metrics:  `hamming_map`, `hamming_map_best`, `hamming_map_worst`: mAP@all, in
              expectation over all orders of ties, and for the best and worst of them.

              `hamming_map_at_k`, `hamming_map_at_k_best`, `hamming_map_at_k_worst`: mAP@k.

              `hamming_map_conventional`, `hamming_map_at_k_conventional`: ties in database
              order, for comparison with papers. These two sort, and take longer.

              `hamming_precision_at_k`, `hamming_recall_at_k`: share of the first k, and of
              the relevant items.

              `hamming_hit_rate_at_k`, or Recall@K: whether any of the first k is relevant.

              `hamming_mrr`: 1 / rank of the first relevant item.

              `hamming_map_at_r`: mAP@R, with as many ranks as the query has relevant
              items, as PML defines it.

              `hamming_ndcg`, `hamming_ndcg_at_k`, `hamming_acg_at_k`, `hamming_wap`,
              `hamming_wap_at_k`: by grades, the number of shared labels or `relevance`.

              `precision_at_radius_r`, `recall_at_radius_r`, `f1_at_radius_r`: within r
              bits, inclusive. Precision is 0 where nothing is that near.

              `hamming_tied_at_k`: share of queries whose first k are one tie.

              `distinct_codes`: how many codes the database has.

              `bit_imbalance`, `bit_entropy`, `bit_correlation`, `bit_importance_gini`: of
              the database, see `bit_statistics.BitStatistics`.

              k and r may be any number, several at once: `hamming_map_at_100`,
              `Recall@5`, `precision_at_radius_7`. Hooks record names as columns of SQL,
              which `Recall@5` cannot be: name it `hamming_hit_rate_at_5` there.
              All metrics of PML's own calculator can be named in `include`; they then run
              on the codes with `HammingKNN` (ties by index), under PML's definitions.
              A precision-recall curve is no number: see `ranking.precision_recall_curve`.

    Args:
        include: metrics to compute; empty for hamming_map, hamming_map_at_k (with a k),
            precision_at_radius_2 and recall_at_radius_2. `HAMMING_METRICS` are most.
        exclude: metrics to leave out.
        k: ranks of the metrics at k and of PML's knn metrics; as in PML, None for all or
            "max_bin_count". Several numbers write each metric at k out for each of them,
            and PML's take the largest.
        normalizer: denominator of mAP@k, see `ranking`.
        empty: a query with no relevant item is left out ("skip", as in PML) or counts 0
            ("zero").
        max_bytes: bound on memory beyond the codes, see `hamming`.
        relevance: grades of one's own, see `hamming.grade_histograms`.
        grades: their number.
        return_per_class: False; True for PML's lists, which leave out classes without a
            value; "dict" for values with the class as key.
        kwargs: PML's avg_of_avgs, device, knn_func, kmeans_func.

    Shapes:   get_accuracy takes query (Q, K), reference (N, K) as arrays or tensors, and
              labels as class ids (Q,), (N,) or multi-hot rows (Q, C), (N, C).
    Returns:  dict of metric names and floats (lists or dicts with return_per_class, but
              for the metrics of the database). NaN if no query has a relevant item.
    Raises:   ValueError: embeddings of NaN, or of which none is negative, so that all
              are one code. Labels that do not fit, an unknown metric, normalizer or
              empty, a metric at k without an integer k. TypeError: bool or packed codes.
              NotImplementedError: a label_comparison_fn (pass multi-hot labels instead), or
              PML's own metrics and averages per class on multi-hot labels.
    Warns:    UserWarning, once: labels that are a column of multi-hot rows.
    Source:   pytorch-metric-learning, AccuracyCalculator; `ranking`.
              Differs: PML breaks ties by index order and divides mAP@k by all relevant
              items; it rounds labels to float32, which merges class ids above 2^24.
    """

    def __init__(
        self,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        *,
        k: int | str | Sequence[int] | None = None,
        normalizer: Normalizer = "retrieved",
        empty: Empty = "skip",
        max_bytes: int = MAX_BYTES,
        relevance: Relevance | None = None,
        grades: int | None = None,
        return_per_class: bool | str = False,
        **kwargs: Any,
    ) -> None:
        if kwargs.pop("label_comparison_fn", None) is not None:
            raise NotImplementedError(
                "label_comparison_fn is not supported: two items are relevant to each "
                "other if they share a label; pass multi-hot labels (N, C), or relevance="
            )
        check_choice("normalizer", normalizer, get_args(Normalizer))
        check_choice("empty", empty, get_args(Empty))
        check_choice("return_per_class", return_per_class, (False, True, "dict"))
        check_count("max_bytes", max_bytes, least=2**20)
        check_flag("avg_of_avgs", kwargs.get("avg_of_avgs", False))
        check_count("grades", grades, least=2, none="shared labels")
        if isinstance(include, str) or isinstance(exclude, str):
            raise TypeError("include and exclude are tuples of names, not one name")
        ks = _numbers(k)
        if len(include) == 0:
            include = [m for m in DEFAULT_METRICS if ks or not _ends_in_k(m)]
        include, exclude = at_each_k(include, ks), at_each_k(exclude, ks)
        for name in include:
            if not hasattr(self, f"calculate_{name}") and parse_metric(name) is not None:
                setattr(self, f"calculate_{name}", partial(self._calculate, name))
        kwargs.setdefault("knn_func", HammingKNN())
        super().__init__(
            include=tuple(include),
            exclude=tuple(exclude),
            k=max(ks) if ks else k,
            return_per_class=bool(return_per_class),
            **kwargs,
        )
        self.keys_are_classes = return_per_class == "dict"
        self.normalizer = normalizer
        self.empty = empty
        self.max_bytes = max_bytes
        self.relevance = relevance
        self.grades = grades
        self._has_warned = False
        needs_k = [name for name in self.get_curr_metrics() if _ends_in_k(name)]
        if needs_k and not ks:
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
        *,
        exclude_pairs: Exclude | None = None,
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
            exclude_pairs: pairs of a query and an item to leave out: a mask (Q, N) of
                bool, or a tuple of group ids (Q,) and (N,), of which equal ones are left
                out.
        """
        if reference is None:
            reference, reference_labels = query, query_labels
            ref_includes_query = True
        query_labels = as_labels(query_labels, "query labels")
        reference_labels = as_labels(reference_labels, "database labels")
        if not self._has_warned and self.relevance is None:
            self._has_warned = check_not_a_column(query_labels)
        query, query_labels, reference, reference_labels = (
            torch.as_tensor(x).to(self.device)
            for x in (query, query_labels, reference, reference_labels)
        )
        if query is reference or ref_includes_query:
            check_outputs(reference, name="embeddings")
        else:
            check_outputs(query, reference, name="embeddings")
        query, reference = binarize(query.float()), binarize(reference.float())
        self.check_primary_metrics(tuple(include), tuple(exclude))
        wanted = self.get_function_dict(include, exclude)
        ours = {name: f for name, f in wanted.items() if parse_metric(name) is not None}
        theirs = [name for name in wanted if name not in ours]
        data = (query, query_labels, reference, reference_labels, ref_includes_query)
        values = measure(
            ours, *data[:4], ref_includes_query=ref_includes_query,
            max_bytes=self.max_bytes, relevance=self.relevance, grades=self.grades,
            exclude=exclude_pairs, k=self.k, normalizer=self.normalizer,
        )  # fmt: skip
        result = self._get_accuracy(ours, values=values, query_labels=query_labels)
        if theirs:
            self._check_theirs(theirs, query_labels, exclude_pairs)
            result |= super().get_accuracy(*data, tuple(theirs))
        self.curr_function_dict = wanted
        return result

    def _check_theirs(
        self, names: list[str], labels: Tensor, exclude_pairs: Exclude | None
    ) -> None:
        listed = ", ".join(names)
        check_labels(labels, len(labels), read=True)
        if labels.ndim != 1:
            raise NotImplementedError(
                f"{listed}: PML's metrics take class ids of shape (N,) only"
            )
        if exclude_pairs is not None or self.relevance is not None:
            raise NotImplementedError(
                f"{listed}: PML's metrics know neither exclude_pairs nor relevance"
            )

    def _calculate(self, name: str, values: dict[str, Any], query_labels: Tensor) -> Any:
        if name in OF_DATABASE:
            return values[name]
        return self._average(values[name], query_labels)

    def _average(self, values: Tensor, query_labels: Tensor) -> Any:
        if self.keys_are_classes:
            return mean_by_class(values, query_labels, empty=self.empty)
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
    _method: Any = partialmethod(HammingAccuracyCalculator._calculate, _name)
    setattr(HammingAccuracyCalculator, f"calculate_{_name}", _method)


def _numbers(k: Any) -> tuple[int, ...]:
    """Tell which k are asked for; none where PML has to find out."""
    if isinstance(k, (list, tuple)):
        if not k:
            raise ValueError("k must be a number or several, got none")
        for each in k:
            check_count("k", each)
        return tuple(dict.fromkeys(k))
    if k is None or isinstance(k, str):
        return ()
    check_count("k", k)
    return (k,)


def _ends_in_k(name: str) -> bool:
    metric = parse_metric(name)
    return metric is not None and metric.k == "k"
