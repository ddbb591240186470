"""What the active phase measures, and which groups follow from it.

A scorer is one small object. `measure` looks at a batch; `edges` turns the running
statistics into the strengths along which bits are merged; `group` applies both and weighs
the members of each group. A user's own scorer is a subclass of `Scorer`, or just a function
`(codes, labels) -> (K, K)` of redundancies.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .pair_likelihood import drop_one_importance, merge_cost
from .redundancy import (
    RedundancyGraph,
    group_signs,
    groups_for_targets,
    partition,
)

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
        weighting: weights inside a group: "equal", or by "importance" (that of
            `drop_one_importance`, shifted so that the least important bit of the code has
            almost none); None for the `default_weighting` of the class.
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


class Correlation(Scorer):
    r"""Merge the bits that correlate most, positively or negatively.

    Formula:  A_ij = |ρ_ij|.
    Source:   Fu et al., IJCAI 2019 (redundancy).  Differs: their graph is learned by an
              attention-like update that the abstract does not spell out.

    Args:
        weighting: "importance" (default), which needs labels, or "equal", which does not.
        every_n_steps: see `Scorer`; of importances, which do not choose the groups here.
        max_items: see `Scorer`.
    """

    def __init__(
        self,
        weighting: Weighting = "importance",
        every_n_steps: int = 2 * EVERY_N_STEPS,
        max_items: int | None = None,
    ) -> None:
        super().__init__(weighting, every_n_steps, max_items)

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, None]:
        """Strengths |ρ|."""
        return graph.correlation().abs(), None


class DropOne(Scorer):
    r"""Merge the most important bits with the least important ones.

    Formula:  v of `drop_one_importance`; A_ij = |rank of v_i - rank of v_j| / K.
    Source:   Fu et al., IJCAI 2019 (balance of importance).  Differs: importance is
              measured by a likelihood in closed form.
    """

    ranks_bits = True

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, Tensor | None]:
        """Strengths by difference of rank, so that the extremes meet first."""
        rank = graph.importance.argsort(stable=True).argsort().to(graph.importance)
        return (rank[:, None] - rank[None, :]).abs() / graph.bits, None


class Complementary(Scorer):
    r"""Let the most important bits lead, each joined by bits unlike itself.

    Formula:  anchors: the K' bits of largest v. A_ij = 1 - |ρ_ij| between an anchor and any
              other bit; no edge elsewhere.
    Source:   this package.  Differs: not in Fu et al.

    Weighted by importance unless weighting="equal".
    """

    ranks_bits = True
    default_weighting = "importance"

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, Tensor | None]:
        """Strengths between anchors and the others."""
        return _anchored(1 - graph.correlation().abs(), graph, out_bits)


class MergeCost(Scorer):
    r"""Merge the bits that are missed least as separate ones.

    Formula:  A_ij = -c_ij, the running mean of `merge_cost`.
    Source:   this package.  Differs: not in Fu et al.

    Args:
        weighting: "importance" (default) or "equal".
        every_n_steps: see `Scorer`.
        max_items: see `Scorer`; the cost grows with its square.
    """

    needs_labels = True

    def __init__(
        self,
        weighting: Weighting = "importance",
        every_n_steps: int = EVERY_N_STEPS,
        max_items: int | None = 48,
    ) -> None:
        super().__init__(weighting, every_n_steps, max_items)

    def measure(self, codes: Tensor, labels: Tensor | None) -> Measurement:
        """Measure costs, and importances where groups are weighted by them."""
        assert labels is not None
        cost, scored = merge_cost(codes, labels)
        importance = None
        if self.weighting == "importance":
            importance, _ = drop_one_importance(codes, labels)
        return Measurement(importance, cost, scored)

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, None]:
        """Strengths: what is cheap is strong."""
        return -graph.redundancy, None


class Codewords(Scorer):
    r"""Merge bits so that their sums come close to codewords of the classes.

    Formula:  `redundancy.groups_for_targets`, then weights of a group divided by the sum of
              their absolute values. The codewords are found first, in the long code:
              `semantic_codebook` of its class means. The graph's moments and these means
              are all that is needed.
    Source:   this package.  Differs: not in Fu et al.

    Right after the merge, the code is better than random, pruned or by correlation, on
    average over losses and data sets. Training on makes up for nearly all of the
    difference, unless little of it is left (docs/does-it-work.md).
    Needs a layer with `num_classes`, of which it is the default. No weighting: what is
    solved for is a weight.
    """

    needs_codewords = True

    def __init__(self) -> None:
        super().__init__("equal")

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, None]:
        """Strengths |ρ|: by them a schedule sees whether bits change; groups do not."""
        return graph.correlation().abs(), None

    def group(
        self,
        graph: RedundancyGraph,
        out_bits: int,
        max_group: int,
        agreement: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Fit groups; equal weights where a group knows nothing of its codeword bit."""
        assert agreement is not None
        groups, weights = groups_for_targets(graph.moment, agreement, max_group)
        total = weights.new_zeros(out_bits).index_add_(0, groups, weights.abs())[groups]
        signs = group_signs(graph.correlation(), groups)
        sizes = torch.bincount(groups, minlength=out_bits)[groups]
        known = total > 1e-6
        return groups, torch.where(known, weights / total.clamp(min=1e-6), signs / sizes)


class Prune(Scorer):
    r"""Control: keep the K' most important bits and drop the others.

    Formula:  as `Complementary`, but an anchor has all the weight of its group.
    Source:   ablation control.  Differs: not in Fu et al.

    Args:
        every_n_steps: see `Scorer`.
        max_items: see `Scorer`.
    """

    ranks_bits = True

    def __init__(
        self, every_n_steps: int = EVERY_N_STEPS, max_items: int | None = None
    ) -> None:
        super().__init__("equal", every_n_steps, max_items)

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, Tensor | None]:
        """Strengths between anchors and the others; which of them is of no consequence."""
        return _anchored(torch.zeros_like(graph.moment), graph, out_bits)

    def weights(
        self, graph: RedundancyGraph, groups: Tensor, anchors: Tensor | None
    ) -> Tensor:
        """One for an anchor, zero for the others."""
        assert anchors is not None
        return anchors.to(graph.importance)


class Random(Scorer):
    r"""Control: merge along random edges.

    Formula:  A_ij uniform in [0, 1), drawn once from `seed`.
    Source:   ablation control.  Differs: not in Fu et al.

    Args:
        seed: of a generator of its own, so that all processes draw the same edges.
        weighting: "equal" (default) or "importance".
        every_n_steps: see `Scorer`; of importances.
        max_items: see `Scorer`.
    """

    def __init__(
        self,
        seed: int = 0,
        weighting: Weighting = "equal",
        every_n_steps: int = EVERY_N_STEPS,
        max_items: int | None = None,
    ) -> None:
        super().__init__(weighting, every_n_steps, max_items)
        self.seed = seed

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, None]:
        """Random strengths, the same for every call with this size and seed."""
        generator = torch.Generator().manual_seed(self.seed)
        upper = torch.rand(graph.bits, graph.bits, generator=generator).triu(1)
        return (upper + upper.T).to(graph.moment), None


class FunctionScorer(Scorer):
    """Merge along the running mean of what a function measures.

    Args:
        function: (codes (B, K) of -1 and +1, labels) -> redundancies (K, K).
        every_n_steps: see `Scorer`; here every step by default.
        max_items: see `Scorer`.
    """

    needs_labels = True

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        every_n_steps: int = 1,
        max_items: int | None = None,
    ) -> None:
        super().__init__("equal", every_n_steps, max_items)
        self.function = function

    def measure(self, codes: Tensor, labels: Tensor | None) -> Measurement:
        """Call the function and check what it returns."""
        assert labels is not None
        redundancy = self.function(codes, labels)
        bits = codes.shape[1]
        if redundancy.shape != (bits, bits):
            raise ValueError(
                f"a scorer function must return shape ({bits}, {bits}), got "
                f"{tuple(redundancy.shape)}"
            )
        return Measurement(redundancy=redundancy)

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, None]:
        """Strengths as measured, made symmetric."""
        return 0.5 * (graph.redundancy + graph.redundancy.T), None


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


SCORERS: dict[str, Callable[[], Scorer]] = {
    "correlation": Correlation,
    "drop_one": DropOne,
    "complementary": Complementary,
    "merge_cost": MergeCost,
    "codewords": Codewords,
    "random": Random,
    "prune": Prune,
}


def make_scorer(scorer: "str | Scorer | Callable[[Tensor, Tensor], Tensor]") -> Scorer:
    """Find a scorer by name, take one as it is, or wrap a function.

    Args:
        scorer: a name of `SCORERS`, a `Scorer`, or a function of (codes, labels).

    Raises:
        ValueError: an unknown name.
        TypeError: something else.
    """
    if isinstance(scorer, str):
        if scorer not in SCORERS:
            raise ValueError(f"scorer must be one of {', '.join(SCORERS)}; got {scorer!r}")
        return SCORERS[scorer]()
    if isinstance(scorer, Scorer):
        return scorer
    if callable(scorer) and not isinstance(scorer, type):
        return FunctionScorer(scorer)
    raise TypeError(
        "scorer must be a name, a Scorer object or a function (codes, labels) -> (K, K); "
        f"got {scorer!r}"
    )
