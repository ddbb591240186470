"""Metrics of a data set that comes in batches, and on several processes."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..codes.convention import binarize
from ..codes.outputs import OutputRange, range_of
from ..codes.packing import pack_codes
from ..hamming.histograms import MAX_BYTES
from ..labels.checks import as_labels, check_labels
from ..labels.columns import check_not_a_column
from ..labels.relevance import Relevance
from ..ranking.average_precision import Normalizer
from ..ranking.by_class import mean_by_class
from ..ranking.queries import Empty, mean_over_queries
from ..runtime.options import check_choice, check_count, check_flag
from ..runtime.process_group import gather
from .collected import Side, joined, without_repeats
from .metrics_by_name import OF_DATABASE, measure, parse_metric
from .sharded import query_share

Role = Literal["both", "query", "reference"]
_BYTES_OF_CELL = 256


class HammingRetrieval:
    r"""Collect codes batch by batch, then judge them: update, compute, reset.

    Use it in a validation loop of your own, or of Lightning. Codes are kept packed on the
    CPU, an item of 64 bits in 8 bytes, so that a million items take 8 MB and their labels.

    Args:
        metrics: names as of HammingAccuracyCalculator with their numbers in them, such as
            "hamming_map", "hamming_map_at_100", "Recall@10", "precision_at_radius_2".
        normalizer: denominator of mAP at k, see `ranking`.
        empty: a query without relevant items is left out ("skip") or counts 0 ("zero").
        per_class: give a dict of class and mean for each metric of queries.
        relevance: grades of one's own, see `hamming.grade_histograms`.
        grades: their number.
        max_bytes: bound on memory beyond the codes.

    Shapes:   see `update` and `compute`.
    Returns:  `compute` gives a dict of metric names and floats.
    Raises:   ValueError: an unknown metric; else see `update` and `compute`.
    Source:   the interface of torchmetrics.  Differs: codes need no score and no index of
              queries; processes are joined in `compute`, items that a DistributedSampler
              has repeated count once if `ids` are given.

    Example:
        >>> metric = HammingRetrieval(["hamming_map", "Recall@1"])
        >>> outputs = torch.tensor([[3.0, 1], [2, 1], [-1, -3]])
        >>> labels = torch.tensor([0, 0, 1])
        >>> for batch in (slice(0, 2), slice(2, 3)):
        ...     metric.update(outputs[batch], labels[batch])
        >>> metric.compute()
        {'hamming_map': 1.0, 'Recall@1': 1.0}
    """

    def __init__(
        self,
        metrics: Sequence[str] = ("hamming_map",),
        *,
        normalizer: Normalizer = "retrieved",
        empty: Empty = "skip",
        per_class: bool = False,
        relevance: Relevance | None = None,
        grades: int | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        if isinstance(metrics, str) or not metrics:
            raise TypeError(f"metrics must be a list of names, got {metrics!r}")
        for name in metrics:
            parsed = parse_metric(name)
            if parsed is None or parsed.k == "k":
                raise ValueError(
                    f"{name!r} is no metric; names are as in evaluation.HAMMING_METRICS "
                    "with a number for k, such as hamming_map_at_100 or Recall@10"
                )
        check_choice("normalizer", normalizer, get_args(Normalizer))
        check_choice("empty", empty, get_args(Empty))
        check_flag("per_class", per_class)
        check_count("grades", grades, least=2, none="shared labels")
        check_count("max_bytes", max_bytes, least=2**20)
        self.metrics = tuple(metrics)
        self.normalizer = normalizer
        self.empty = empty
        self.per_class = per_class
        self.relevance = relevance
        self.grades = grades
        self.max_bytes = max_bytes
        self.reset()

    def reset(self) -> None:
        """Forget all items."""
        self.bits: int | None = None
        self.sides: dict[str, list[Side]] = {role: [] for role in get_args(Role)}
        self.outputs = OutputRange()
        self._has_warned = False

    def update(
        self,
        outputs: Tensor,
        labels: Any,
        *,
        role: Role = "both",
        groups: Any = None,
        ids: Any = None,
    ) -> None:
        """Add a batch.

        Args:
            outputs: (B, K) real before sign, or codes of -1 and +1.
            labels: class ids (B,) or rows of 0 and 1 (B, C); any with `relevance`.
            role: "query", "reference", or "both": each item is searched among all others.
            groups: (B,) ids; items of a query's group are left out, such as those of the
                same camera. With a role, all batches have them or none.
            ids: (B,) numbers of the items; of equal ones the first counts.

        Raises:
            ValueError: another number of bits, labels that do not fit, NaN, or roles that
                do not go together. TypeError: bool or packed codes.
        """
        check_choice("role", role, get_args(Role))
        outputs, labels = torch.as_tensor(outputs).detach(), as_labels(labels)
        seen = range_of(outputs)
        if self.relevance is None:
            check_labels(labels, len(outputs), read=True)
            if not self._has_warned:
                self._has_warned = check_not_a_column(labels)
        elif len(labels) != len(outputs):
            raise ValueError(f"got {len(outputs)} items but {len(labels)} labels")
        if self.bits not in (None, outputs.shape[1]):
            raise ValueError(f"outputs have {outputs.shape[1]} bits, before {self.bits}")
        if self._mixes(role):
            raise ValueError(
                "role='query' and role='both' do not go together: items of 'both' are the "
                "queries; add others with role='reference'"
            )
        codes = pack_codes(binarize(outputs)).cpu() if len(outputs) else None
        side = Side.of(codes, labels, groups, ids, len(outputs))
        for other in (part for parts in self.sides.values() for part in parts):
            side.check_like(other, labelled=self.relevance is None)
        if codes is not None:
            self.bits, self.outputs = outputs.shape[1], self.outputs.joined(seen)
            self.sides[role].append(side)

    def compute(self) -> dict[str, Any]:
        """Judge all items of all processes; the same on each of them.

        Raises:
            ValueError: no queries, no database, or outputs that are never negative.
        """
        sides, bits = self._everything()
        both, query, reference = (without_repeats(sides[role]) for role in get_args(Role))
        asks, own = (both, True) if both is not None else (query, False)
        found = joined([part for part in (both, reference) if part is not None])
        if asks is None or found is None:
            missing = "queries" if asks is None else "database"
            raise ValueError(f"there are no items to judge: no {missing} were added")
        mine = query_share(len(asks.codes))
        parts: dict[str, list[Any]] = {name: [] for name in self.metrics}
        cells = max(self.max_bytes // (_BYTES_OF_CELL * ((bits or 1) + 1)), 1)
        for start in range(mine.start, max(mine.stop, mine.start + 1), cells):
            rows = slice(start, min(start + cells, mine.stop))
            groups = None
            if asks.groups is not None and found.groups is not None:
                groups = asks.groups[rows], found.groups
            values = measure(
                self.metrics,
                asks.codes[rows], asks.labels[rows], found.codes, found.labels,
                ref_includes_query=own, bits=bits, max_bytes=self.max_bytes,
                query_start=start, relevance=self.relevance, grades=self.grades,
                exclude=groups, normalizer=self.normalizer,
            )  # fmt: skip
            for name, value in values.items():
                parts[name].append(value)
        return {name: self._mean(name, parts[name], asks.labels) for name in self.metrics}

    def merge(self, other: "HammingRetrieval") -> None:
        """Add the items of another object, as of a process that has ended.

        Args:
            other: with the same number of bits.

        Raises:
            ValueError: items that do not go together; TypeError: another class.
        """
        if not isinstance(other, HammingRetrieval):
            raise TypeError(f"other must be a HammingRetrieval, got {type(other).__name__}")
        if None not in (self.bits, other.bits) and self.bits != other.bits:
            raise ValueError(f"other has {other.bits} bits, this has {self.bits}")
        self.bits = other.bits if self.bits is None else self.bits
        self.outputs = self.outputs.joined(other.outputs)
        for role, parts in other.sides.items():
            self.sides[role] += parts

    def state_dict(self) -> dict[str, Any]:
        """Give all items as tensors and plain numbers."""
        sides = {role: joined(parts) for role, parts in self.sides.items()}
        return {
            "bits": self.bits,
            "outputs": list(self.outputs),
            "sides": {r: tuple(side) for r, side in sides.items() if side is not None},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the items of `state_dict` instead of one's own.

        Args:
            state: what `state_dict` returned.
        """
        wanted = {"bits", "outputs", "sides"}
        if set(state) != wanted:
            raise ValueError(f"state must have {sorted(wanted)}, got {sorted(state)}")
        self.reset()
        self.bits, self.outputs = state["bits"], OutputRange(*state["outputs"])
        for role, values in state["sides"].items():
            self.sides[role].append(Side(*values))

    def _roles(self) -> list[str]:
        return [role for role, parts in self.sides.items() if parts]

    def _mixes(self, role: str) -> bool:
        return {"both", "query"} <= {role, *self._roles()}

    def _everything(self) -> tuple[dict[str, Side | None], int | None]:
        own = {role: joined(parts) for role, parts in self.sides.items()}
        everyone = gather((own, self.bits, self.outputs))
        seen = OutputRange()
        for _, _, outputs in everyone:
            seen = seen.joined(outputs)
        seen.check()
        lengths = {bits for _, bits, _ in everyone if bits is not None}
        if len(lengths) > 1:
            raise ValueError(f"processes have codes of {sorted(lengths)} bits")
        sides = {
            role: joined([each[role] for each, _, _ in everyone if each[role] is not None])
            for role in own
        }
        return sides, lengths.pop() if lengths else None

    def _mean(self, name: str, parts: list[Any], labels: Tensor) -> Any:
        if name in OF_DATABASE:
            return parts[0]
        values = torch.cat(gather(torch.cat(parts)))
        if self.per_class:
            return mean_by_class(values, labels, empty=self.empty)
        return mean_over_queries(values, empty=self.empty)
