"""Average precision of ranked lists, which depends on the order of ties: to compare."""

from typing import get_args

import torch
from torch import Tensor

from ..hamming.exclusion import Exclude, as_exclusion
from ..hamming.histograms import MAX_BYTES, pair_counter
from ..labels.relevance import Relevance
from ..runtime.options import check_choice, check_count
from ..runtime.renamed import SIDES, renamed
from .average_precision import Normalizer


@renamed(**SIDES)
def conventional_average_precision(
    query: Tensor,
    query_labels: Tensor,
    reference: Tensor,
    reference_labels: Tensor,
    k: int | None = None,
    *,
    normalizer: Normalizer = "retrieved",
    ref_includes_query: bool = False,
    bits: int | None = None,
    max_bytes: int = MAX_BYTES,
    query_start: int = 0,
    relevance: Relevance | None = None,
    exclude: Exclude | None = None,
) -> Tensor:
    r"""Average precision of each query as papers compute it: ties in database order.

    Formula:  AP@k of `tie_aware_average_precision` for one order: items by (d, n), that is
              a stable sort by distance.

    For comparison with published numbers only. The value depends on how the database is
    sorted: on a database sorted by class it is optimistic for the first classes.

    Args:
        query: query codes, -1 and +1, or packed uint8.
        query_labels: class ids, or rows of 0 and 1; items are relevant that share a label.
        reference: database codes, in the same form.
        reference_labels: labels of the database, in the same form.
        k: number of ranks that count; None for all (AP@all).
        normalizer: "retrieved" (hashing papers), "relevant" (PML) or "min".
        ref_includes_query: the database holds the queries, from item `query_start` on;
            none finds itself.
        bits: code length K in bits; required for packed codes only.
        max_bytes: bound on memory beyond the arguments, at least 2^20; but the list of one
            query takes 64 bytes an item in any case.
        query_start: see `ref_includes_query`.
        relevance: see `hamming.hamming_histograms`; None for shared labels.
        exclude: pairs to leave out, see `hamming.hamming_histograms`.

    Shapes:   as `mean_average_precision` -> (Q,) float64.
    Returns:  values in [0, 1], NaN for a query without relevant items; between the "worst"
              and the "best" of `tie_aware_average_precision`, and equal to it without ties.
    Raises:   ValueError: as `mean_average_precision`.
    Source:   evaluation code of the hashing literature (one argsort a query).
              Differs: the sort is stable; theirs leaves ties to the sorting routine.
    """
    check_choice("normalizer", normalizer, get_args(Normalizer))
    check_count("k", k, none="all")
    counter = pair_counter(
        query,
        query_labels,
        reference,
        reference_labels,
        ref_includes_query,
        bits,
        max_bytes,
        query_start,
        relevance,
    )
    left_out = as_exclusion(exclude, len(counter.q), len(counter.r))
    size = len(counter.r)
    ranks = torch.arange(1, size + 1, device=counter.q.device, dtype=torch.float64)
    step = max(max_bytes // (64 * max(size, 1)), 1)
    values = [ranks.new_zeros(0)]
    for start in range(0, len(counter.q), step):
        rows = slice(start, min(start + step, len(counter.q)))
        distances, relevant = counter.distances(rows), counter.relevant(rows)
        if ref_includes_query:
            i = torch.arange(rows.stop - start, device=distances.device)
            distances[i, query_start + start + i] = torch.inf  # sorted to the end
            relevant[i, query_start + start + i] = False
        if left_out is not None:
            mask = left_out.dense(rows, distances.device)
            distances[mask] = torch.inf
            relevant[mask] = False
        total = relevant.sum(1)
        relevant = relevant.gather(1, distances.sort(dim=1, stable=True).indices)[:, :k]
        found = relevant.sum(1)
        precisions = relevant.cumsum(1) / ranks[:k]
        least = total.clamp(max=size if k is None else k)
        z = {"retrieved": found, "relevant": total, "min": least}[normalizer]
        ap = (precisions * relevant).sum(1) / z.clamp(min=1)
        values.append(torch.where(total > 0, ap, torch.nan))
    return torch.cat(values)
