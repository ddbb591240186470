"""What the active phase measures, and which groups follow from it.

A scorer is one small object. `measure` looks at a batch; `edges` turns the running
statistics into the strengths along which bits are merged; `group` applies both and weighs
the members of each group. A user's own scorer is a subclass of `Scorer`, or just a function
`(codes, labels) -> (K, K)` of redundancies.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..graph import RedundancyGraph
from ..pair_likelihood import drop_one_importance
from ..partition import group_signs, partition

Weighting = Literal["equal", "importance"]
EVERY_N_STEPS = 16  # measuring pairs then costs a small part of a training step


class Measurement(NamedTuple):
    """What a scorer saw in one batch; None for what it does not look at."""

    importance: Tensor | None = None  # (K,)
    redundancy: Tensor | None = None  # (K, K)
    scored: Tensor | None = None  # 0-d, number of items behind the above; None for all


class Scorer:
    """Base of all scorers: measures importance where it is used, and weighs groups.

    Correlations are counted on the first 16 batches of an active phase, and after them on
    every eighth: `count_first` and `count_every_n_steps`, attributes that a subclass or an
    object may set. What looks at pairs of items costs more: it is measured on every n-th
    batch, and on its first items. A batch that is measured is counted, too; any other is
    not looked at.

    Args:
        weighting: weights inside a group: "equal", or by "importance". That is
            `drop_one_importance`, shifted so that the least important bit of the code has
            almost none. None for the `default_weighting` of the class.
        every_n_steps: `measure` is called for the first batch of an active phase, and for
            every n-th after it.
        max_items: how many items of a batch it is given at most; None for all.

    Raises:
        ValueError: an unknown weighting, or a number < 1.
    """

    count_first = 16  # batches: a graph of a short phase has something to stand on
    count_every_n_steps = 8  # counting then costs a small part of a training step, too
    ranks_bits = False  # whether `edges` uses importances, whatever the weighting
    needs_codewords = False  # whether `group` is given what bits agree with
    default_weighting: Weighting = "equal"

    def __init__(
        self,
        *,
        weighting: Weighting | None = None,
        every_n_steps: int = EVERY_N_STEPS,
        max_items: int | None = None,
    ) -> None:
        weighting = self.default_weighting if weighting is None else weighting
        if weighting not in ("equal", "importance"):
            raise ValueError(
                f"weighting must be 'equal' or 'importance', got {weighting!r}"
            )
        if every_n_steps < 1 or (max_items is not None and max_items < 1):
            raise ValueError(
                "every_n_steps and max_items must be at least 1, got "
                f"every_n_steps={every_n_steps}, max_items={max_items}"
            )
        self.weighting = weighting
        self.every_n_steps = every_n_steps
        self.max_items = max_items

    def counts(self, batch: int) -> bool:
        """Tell whether the graph counts a batch.

        Args:
            batch: its number in the active phase, from 0.
        """
        return batch < self.count_first or batch % self.count_every_n_steps == 0

    @property
    def needs_labels(self) -> bool:
        """Whether `measure` must be given labels."""
        return self.ranks_bits or self.weighting == "importance"

    def measure(self, codes: Tensor, labels: Tensor | None) -> Measurement:
        """Look at one batch of codes (B, K) of -1 and +1; no gradient, no device sync."""
        if not self.needs_labels:
            return Measurement()
        assert labels is not None
        importance, scored = drop_one_importance(codes, labels)
        return Measurement(importance=importance, scored=scored)

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, Tensor | None]:
        """Return edge strengths (K, K) and the anchors (K,), or None without anchors."""
        raise NotImplementedError

    def group(
        self,
        graph: RedundancyGraph,
        out_bits: int,
        max_group: int,
        agreement: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the group (K,) int64 and the signed weight (K,) of every bit.

        The absolute weights of a group sum to one.

        Args:
            graph: what was seen.
            out_bits: number of groups K'.
            max_group: largest number of bits in a group.
            agreement: E[b tᵀ] (K, K') of bits and the codewords t of their classes, for a
                scorer that has `needs_codewords`; others are called without it.
        """
        edges, anchors = self.edges(graph, out_bits)
        groups = partition(edges, out_bits, max_group, anchors)
        weights = self.weights(graph, groups, anchors)
        total = weights.new_zeros(out_bits).index_add_(0, groups, weights)
        weights = weights / total[groups]
        return groups, weights * group_signs(graph.correlation(), groups)

    def weights(
        self, graph: RedundancyGraph, groups: Tensor, anchors: Tensor | None
    ) -> Tensor:
        """Return unnormalised weights (K,) >= 0 with a positive one in every group."""
        if self.weighting == "equal":
            return torch.ones_like(graph.importance)
        v = graph.importance - graph.importance.min()
        return v + 1e-3 * v.mean() + 1e-12

    def __repr__(self) -> str:
        """Show the options; checkpoints are compared by it, so it names no address."""
        options = ", ".join(f"{k}={_shown(v)}" for k, v in sorted(vars(self).items()))
        return f"{type(self).__name__}({options})"


def _shown(value: object) -> str:
    name = getattr(value, "__qualname__", None)
    return repr(value) if name is None else f"{getattr(value, '__module__', '')}.{name}"


def _anchored(
    strengths: Tensor, graph: RedundancyGraph, out_bits: int
) -> tuple[Tensor, Tensor]:
    """Keep only the edges between the most important bits and the others."""
    best = graph.importance.argsort(descending=True, stable=True)[:out_bits]
    anchors = torch.zeros_like(graph.importance, dtype=torch.bool)
    anchors[best] = True
    mixed = anchors[:, None] != anchors[None, :]
    return strengths.masked_fill(~mixed, -torch.inf), anchors
