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
from torch.nn import functional as F

from .redundancy import RedundancyGraph, group_signs, partition
from .similarity import shared_label

Weighting = Literal["equal", "importance"]


class Measurement(NamedTuple):
    """What a scorer saw in one batch; None for what it does not look at."""

    importance: Tensor | None = None  # (K,)
    redundancy: Tensor | None = None  # (K, K)
    scored: Tensor | None = None  # 0-d, number of items behind the above; None for all


class Scorer:
    """Base of all scorers: measures importance where it is used, and weighs groups.

    Args:
        weighting: weights inside a group: "equal", or by "importance" (that of
            `drop_one_importance`, shifted so that the least important bit of the code has
            almost none).

    Raises:
        ValueError: an unknown weighting.
    """

    ranks_bits = False  # whether `edges` uses importances, whatever the weighting

    def __init__(self, weighting: Weighting = "equal") -> None:
        if weighting not in ("equal", "importance"):
            raise ValueError(
                f"weighting must be 'equal' or 'importance', got {weighting!r}"
            )
        self.weighting = weighting

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
        self, graph: RedundancyGraph, out_bits: int, max_group: int
    ) -> tuple[Tensor, Tensor]:
        """Return the group (K,) int64 and the signed weight (K,) of every bit.

        The absolute weights of a group sum to one.
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
        """Show the options in print(model)."""
        options = ", ".join(f"{k}={v!r}" for k, v in vars(self).items())
        return f"{type(self).__name__}({options})"


class Correlation(Scorer):
    r"""Merge the bits that correlate most, positively or negatively.

    Formula:  A_ij = |ρ_ij|.
    Source:   Fu et al., IJCAI 2019 (redundancy).  Differs: their graph is learned by an
              attention-like update that the abstract does not spell out.

    Args:
        weighting: "importance" (default), which needs labels, or "equal", which does not.
    """

    def __init__(self, weighting: Weighting = "importance") -> None:
        super().__init__(weighting)

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

    Args:
        weighting: "importance" (default) or "equal".
    """

    ranks_bits = True

    def __init__(self, weighting: Weighting = "importance") -> None:
        super().__init__(weighting)

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, Tensor | None]:
        """Strengths between anchors and the others."""
        return _anchored(1 - graph.correlation().abs(), graph, out_bits)


class Prune(Scorer):
    r"""Control: keep the K' most important bits and drop the others.

    Formula:  as `Complementary`, but an anchor has all the weight of its group.
    Source:   ablation control.  Differs: not in Fu et al.
    """

    ranks_bits = True

    def __init__(self) -> None:
        super().__init__("equal")

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
    """

    def __init__(self, seed: int = 0, weighting: Weighting = "equal") -> None:
        super().__init__(weighting)
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
    """

    needs_labels = True

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__("equal")
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


def _anchored(
    strengths: Tensor, graph: RedundancyGraph, out_bits: int
) -> tuple[Tensor, Tensor]:
    """Keep only the edges between the most important bits and the others."""
    best = graph.importance.argsort(descending=True, stable=True)[:out_bits]
    anchors = torch.zeros_like(graph.importance, dtype=torch.bool)
    anchors[best] = True
    mixed = anchors[:, None] != anchors[None, :]
    return strengths.masked_fill(~mixed, -torch.inf), anchors


def drop_one_importance(codes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    r"""How much the class-balanced pair likelihood suffers when a bit is left out.

    Formula:  L(θ) = ½ mean over similar pairs of softplus(-θ)
                   + ½ mean over dissimilar pairs of softplus(θ),  θ_ij = ½⟨b_i, b_j⟩;
              v_k = L(θ - ½ b_k b_kᵀ) - L(θ).
              As b_ik b_jk is -1 or +1, a pair's loss has two possible values only, so with
              W = w (l(θ - ½) - l(θ + ½)):  v_k = ½ sum w (l(θ - ½) + l(θ + ½)) - L(θ)
              + ½ b_kᵀ W b_k, which costs one (B, B) x (B, K) product for all bits.

    Args:
        codes: -1 and +1.
        labels: class ids or multi-hot rows.

    Shapes:   codes (B, K), labels (B,) or (B, C) -> importance (K,), items ().
    Returns:  (v, B), v in nats a pair, larger for a bit that is missed more; it may be
              negative. (zeros, 0) for a batch without similar or without dissimilar pairs.
    Raises:   ValueError: labels of another kind (see `similarity`).
    Source:   this package; the likelihood is that of DPSH, arXiv:1511.03855.
              Differs: class-balanced, as with many classes the plain one rises with almost
              every bit that is left out.
    """
    codes = codes.float()
    with torch.autocast(codes.device.type, enabled=False):
        similar = shared_label(labels).float()
        other = 1 - torch.eye(len(codes), device=codes.device)
        similar, dissimilar = similar * other, (1 - similar) * other
        n_similar, n_dissimilar = similar.sum(), dissimilar.sum()
        w = 0.5 * similar / n_similar.clamp(min=1)
        w = w + 0.5 * dissimilar / n_dissimilar.clamp(min=1)
        theta = 0.5 * codes @ codes.T
        towards = similar - dissimilar  # softplus(-θ) for similar, softplus(θ) otherwise
        without_equal = F.softplus(-(theta - 0.5) * towards)
        without_unequal = F.softplus(-(theta + 0.5) * towards)
        change = w * (without_equal - without_unequal)
        constant = (w * (0.5 * (without_equal + without_unequal))).sum()
        constant = constant - (w * F.softplus(-theta * towards)).sum()
        v = constant + 0.5 * (codes * (change @ codes)).sum(0)
    both_kinds = (n_similar > 0) & (n_dissimilar > 0)
    return v * both_kinds, both_kinds * float(len(codes))


SCORERS: dict[str, Callable[[], Scorer]] = {
    "correlation": Correlation,
    "drop_one": DropOne,
    "complementary": Complementary,
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
