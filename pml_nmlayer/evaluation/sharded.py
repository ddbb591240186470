"""Evaluation by several processes: each judges some queries, and sums are added up.

Every process holds the whole database (packed, 1 million codes of 64 bits are 8 MB).
Without a process group everything here is the single process.
"""

from typing import get_args

import torch
import torch.distributed as dist
from torch import Tensor

from ..hamming.exclusion import Exclude, exclude_rows
from ..hamming.histograms import MAX_BYTES, hamming_histograms
from ..labels.checks import as_labels
from ..labels.relevance import Relevance
from ..ranking.average_precision import Normalizer, tie_aware_average_precision
from ..ranking.queries import Empty
from ..ranking.ties import TieOrder
from ..runtime.options import check_choice, check_count
from ..runtime.renamed import SIDES, renamed


def query_share(count: int, group: dist.ProcessGroup | None = None) -> slice:
    r"""Tell which of `count` queries this process judges.

    Formula:  rank i of W takes floor(i count / W) .. floor((i + 1) count / W) - 1.

    Args:
        count: number of queries Q; the same on all ranks.
        group: process group; None for the default one, or for one process without any.

    Returns:  slice of the queries, empty on some ranks if Q < W. Shares differ by one query
              at most, and together are all queries in order.
    Raises:   TypeError, ValueError: count is no whole number >= 0.
    Source:   this package.
              Differs: DistributedSampler repeats items to make shares equal, which would
              count these queries twice.

    Example:
        >>> query_share(5)
        slice(0, 5, None)
    """
    check_count("count", count, least=0)
    rank, world = (
        (dist.get_rank(group), dist.get_world_size(group)) if _started() else (0, 1)
    )
    return slice(rank * count // world, (rank + 1) * count // world)


@renamed()
def mean_over_ranks(
    values: Tensor, *, empty: Empty = "skip", group: dist.ProcessGroup | None = None
) -> float:
    r"""Mean over the queries of all processes.

    Formula:  sum over ranks of the sum of values / sum over ranks of their number, float64.

    Args:
        values: one value for each query of this rank, NaN for one without relevant items.
        empty: leave NaN out ("skip"), or count it as 0 ("zero"); the same on all ranks.
        group: process group; None for the default one.

    Shapes:   values (Q of this rank,), which may be empty.
    Returns:  the same float on every rank; NaN if nothing is left to average over. Equals
              `ranking.mean_over_queries` of all values but for rounding of a sum.
    Raises:   ValueError: another `empty`, or no queries on any rank.
    Source:   this package.  Differs: a mean of means would weigh queries of a smaller share
              more.

    Example:
        >>> mean_over_ranks(torch.tensor([1.0, 0.5, torch.nan]))
        0.75
    """
    check_choice("empty", empty, get_args(Empty))
    values = values.double()
    judged = ~values.isnan()
    counted = (
        judged.sum() if empty == "skip" else torch.full_like(judged.sum(), len(values))
    )
    total = torch.stack([values.nansum(), counted.double(), judged.new_tensor(len(values))])
    if _started():
        dist.all_reduce(total, group=group)
    if total[2] == 0:
        raise ValueError("there are no queries to average over (Q = 0 on every rank)")
    return float(total[0] / total[1])


@renamed(**SIDES)
def sharded_mean_average_precision(
    query: Tensor,
    query_labels: Tensor,
    reference: Tensor,
    reference_labels: Tensor,
    k: int | None = None,
    *,
    normalizer: Normalizer = "retrieved",
    ref_includes_query: bool = False,
    tie_order: TieOrder = "expected",
    bits: int | None = None,
    max_bytes: int = MAX_BYTES,
    empty: Empty = "skip",
    relevance: Relevance | None = None,
    group: dist.ProcessGroup | None = None,
    exclude: Exclude | None = None,
) -> float:
    r"""`ranking.mean_average_precision` by all processes of a group, each on its queries.

    Formula:  mAP of `ranking.mean_average_precision`; rank i judges the queries of
              `query_share`, and sums are all-reduced.

    Args:
        query: all queries, the same on every rank; -1 and +1, or packed uint8.
        query_labels: their labels.
        reference: the whole database, the same on every rank.
        reference_labels: its labels.
        k: number of ranks that count; None for all.
        normalizer: denominator, see `ranking`.
        ref_includes_query: the database begins with the queries; none finds itself.
        tie_order: "expected", "best" or "worst".
        bits: code length K in bits; required for packed codes only.
        max_bytes: bound on memory of each process beyond arguments and 256 K bytes a query.
        empty: what a query without relevant items does to the mean.
        relevance: see `hamming.hamming_histograms`.
        group: process group; None for the default one, or for one process without any.
        exclude: pairs to leave out, see `hamming.hamming_histograms`.

    Shapes:   as `ranking.mean_average_precision`.
    Returns:  the same float on every rank. With nccl the codes must lie on the rank's GPU.
    Raises:   ValueError: as `ranking.mean_average_precision`.
    Source:   as `ranking.tie_aware_average_precision`.  Differs: as there. For another
              metric take the same steps: `query_share`, the metric, `mean_over_ranks`.
    """
    query, query_labels = torch.as_tensor(query), as_labels(query_labels, "query labels")
    mine = query_share(len(query), group)
    items, hits = hamming_histograms(
        query[mine], query_labels[mine], reference, reference_labels, ref_includes_query,
        bits=bits, max_bytes=max_bytes, query_start=mine.start, relevance=relevance,
        exclude=exclude_rows(exclude, mine),
    )  # fmt: skip
    values = tie_aware_average_precision(
        items, hits, k, normalizer=normalizer, tie_order=tie_order
    )
    return mean_over_ranks(values, empty=empty, group=group)


def _started() -> bool:
    return dist.is_available() and dist.is_initialized()
