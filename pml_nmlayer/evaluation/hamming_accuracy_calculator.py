"""PML's AccuracyCalculator for binary codes."""

from collections.abc import Sequence
from typing import Any, get_args

import torch
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils.accuracy_calculator import (
    AccuracyCalculator,
    maybe_get_avg_of_avgs,
)
from torch import Tensor

from ..codes import binarize
from ..hamming import hamming_histograms
from ..ranking import (
    Normalizer,
    precision_within_radius,
    recall_within_radius,
    tie_aware_average_precision,
)
from .hamming_knn import HammingKNN

HAMMING_METRICS = (
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

    Metrics:  hamming_map: mAP@all.  hamming_map_at_k: mAP@k (needs an integer k).
              precision_at_radius_2, recall_at_radius_2: within 2 bits, inclusive; 0
              precision where nothing is that near.
              All metrics of PML's own calculator can be named in `include`; they then run
              on the codes with `HammingKNN` (ties by index), under PML's definitions.

    Args:
        include: metrics to compute; empty for the Hamming metrics that the options allow.
        exclude: metrics to leave out.
        k: ranks of hamming_map_at_k and of PML's knn metrics; as in PML, None for all or
            "max_bin_count".
        normalizer: denominator of hamming_map_at_k, see `ranking`.
        kwargs: PML's avg_of_avgs, return_per_class, device, knn_func, kmeans_func.

    Shapes:   get_accuracy takes query (Q, K), reference (N, K) as arrays or tensors, and
              labels as class ids (Q,), (N,) or multi-hot rows (Q, C), (N, C).
    Returns:  dict of metric names and floats (lists with return_per_class). A query with
              no relevant item is left out; NaN if all are.
    Raises:   ValueError: NaN embeddings, labels that do not fit, an unknown metric or
              normalizer, hamming_map_at_k without an integer k. NotImplementedError: a
              label_comparison_fn (pass multi-hot labels instead), or PML's own metrics and
              averages per class on multi-hot labels.
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
        **kwargs: Any,
    ) -> None:
        if kwargs.pop("label_comparison_fn", None) is not None:
            raise NotImplementedError(
                "label_comparison_fn is not supported: two items are relevant to each "
                "other if they share a label; pass multi-hot labels (N, C)"
            )
        if normalizer not in get_args(Normalizer):
            raise ValueError(
                f"normalizer must be one of {', '.join(get_args(Normalizer))}; "
                f"got {normalizer!r}"
            )
        if len(include) == 0:
            include = [m for m in HAMMING_METRICS if m != "hamming_map_at_k" or _is_int(k)]
        kwargs.setdefault("knn_func", HammingKNN())
        super().__init__(include=tuple(include), exclude=tuple(exclude), k=k, **kwargs)
        self.normalizer = normalizer
        if "hamming_map_at_k" in self.get_curr_metrics() and not _is_int(k):
            raise ValueError(f"hamming_map_at_k needs an integer k, got k={k!r}")

    def calculate_hamming_map(self, items: Tensor, hits: Tensor, **kwargs: Any) -> Any:
        """Tie-aware mAP over the whole database."""
        return self._average(tie_aware_average_precision(items, hits), **kwargs)

    def calculate_hamming_map_at_k(self, items: Tensor, hits: Tensor, **kwargs: Any) -> Any:
        """Tie-aware mAP over the first k ranks."""
        values = tie_aware_average_precision(items, hits, self.k, self.normalizer)
        return self._average(values, **kwargs)

    def calculate_precision_at_radius_2(
        self, items: Tensor, hits: Tensor, **kwargs: Any
    ) -> Any:
        """Precision within 2 bits."""
        judged = hits.sum(1) > 0
        values = torch.where(judged, precision_within_radius(items, hits, 2), torch.nan)
        return self._average(values, **kwargs)

    def calculate_recall_at_radius_2(
        self, items: Tensor, hits: Tensor, **kwargs: Any
    ) -> Any:
        """Recall within 2 bits."""
        return self._average(recall_within_radius(items, hits, 2), **kwargs)

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
        result: dict[str, Any] = {}
        if ours:
            items, hits = hamming_histograms(
                query, query_labels, reference, reference_labels, ref_includes_query
            )
            result = self._get_accuracy(
                ours, items=items, hits=hits, query_labels=query_labels
            )
        if theirs:
            if query_labels.ndim != 1:
                raise NotImplementedError(
                    f"{', '.join(theirs)}: PML's metrics take class ids of shape (N,) only"
                )
            result |= super().get_accuracy(
                query,
                query_labels,
                reference,
                reference_labels,
                ref_includes_query,
                tuple(theirs),
            )
        self.curr_function_dict = wanted
        return result

    def _average(self, values: Tensor, query_labels: Tensor, **kwargs: Any) -> Any:
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


def _is_int(k: Any) -> bool:
    return isinstance(k, int) and not isinstance(k, bool)
