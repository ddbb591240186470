"""The Neurons Merging Layer: K bits in, K' bits out once the graph is frozen."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ..classes.class_means import ClassMeans
from ..classes.codebooks import check_codebook_size, majority, tie_bits_of
from ..classes.semantic_codebook import semantic_codebook
from ..codes.convention import raw_sign
from ..labels.checks import check_labels, class_rows
from ..runtime.configured import Configured
from ..runtime.process_group import as_on_first, gather_rows
from .graph import RedundancyGraph
from .partition import check_group_sizes
from .scorers.base import Measurement, Scorer
from .scorers.registry import make_scorer

MemberGradient = Literal["full", "weighted"]


class _FullGradientMerge(torch.autograd.Function):
    @staticmethod
    def forward(u: Tensor, merge: Tensor) -> Tensor:
        return u @ merge.T

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (merge,) = ctx.saved_tensors
        return grad_outputs[0] @ merge.sign().to(grad_outputs[0].dtype), None


class NMLayer(Configured):
    r"""Learn which bits are redundant, then merge them.

    Formula:  active phase:  out = u.
              frozen phase:  out_g = sum over k in group g of w_k u_k,  sum of |w_k| = 1,
              with a sign in w_k where bit k is the negation of its group.

    In the active phase the layer passes its input on, and `observe` feeds the redundancy
    graph. `freeze` cuts the graph into groups; from then on the layer merges. `activate`
    starts over with an empty graph.

    With `num_classes` the layer also learns a codeword for each class: in the active phase
    the mean code of each class, and at the merge one code of K' bits a class, far from each
    other, but less far for similar classes, the more so the more `spare_codewords` there
    are (see `semantic_codebook`). `codeword_targets` tells which code an item should have
    from then on; `NMLoss` pulls it there. The scorer "codewords" finds them in the long
    code, and merges bits towards them; with others they are found in the merged one.

    In a torch process group (DistributedDataParallel) `observe` and `freeze` are calls that
    all processes make together: the graph is that of the union of their batches, and all
    get the groups of process 0. A process without items passes an empty batch.

    Args:
        in_bits: K.
        out_bits: K' < K, width of the output in the frozen phase.
        scorer: what is measured and merged: "correlation", "drop_one", "complementary",
            "merge_cost", "codewords" (needs `num_classes`), "random", "prune", a `Scorer`,
            or a function (codes, labels) -> (K, K). On which batches and how many items:
            see `Scorer`. None for "codewords" with `num_classes`, else "correlation".
        max_group: largest number of bits in a group; ceil(K / K') if None, which makes
            all groups equally large where K' divides K.
        gradient: what a member of a group gets in training: the derivative, "weighted" by
            w, or the "full" gradient of its group's output, with the sign of its weight.
            Full members move their group as fast as a single neuron moves. Weighted ones
            move it more slowly, by the sum of w² (1 / n for n equal ones) under SGD, and
            under Adam until its averages forget the larger gradients before the merge.
            docs/choosing.md has measured both.
        memory: items that the running averages remember (see `RedundancyGraph`), of those
            that were counted.
        num_classes: C, to learn codewords of classes; None for none. Labels are then
            needed, class ids in [0, C) or multi-hot rows (B, C).
        spare_codewords: codes to choose codewords from for each class, beyond one. With 0
            codewords are those of `maximin_codebook`, far apart; the more, the more bits
            similar classes share, and the more bits correlate (docs/does-it-work.md has it
            measured).

    Shapes:   u (B, K) -> (B, K) active, (B, K') frozen. Every buffer keeps its shape, so
              that load_state_dict(strict=True) works in any phase; phase, groups and graph
              come with it. A state saved with other arguments is refused (ValueError).
    Returns:  tensor of the dtype of u, with gradients to every bit of non-zero weight.
    Raises:   ValueError: not 1 <= K' < K, max_group too small, an unknown scorer or
              gradient, a scorer that needs codewords or spare_codewords without
              `num_classes`, spare_codewords < 0, more classes than codes (C > 2^K'), or
              input of another width.
    Source:   Fu et al., IJCAI 2019, arXiv:1809.02302.
              Differs: the abstract leaves the update of the graph, the weights, signs,
              gradients and the bound on groups open; here they are as stated.

    Example:
        >>> from pml_nmlayer.scorers import Correlation
        >>> layer = NMLayer(4, 2, scorer=Correlation("equal"))
        >>> layer.observe(torch.tensor([[1., 1, 1, -1], [-1, -1, 1, -1], [1, 1, -1, 1]]))
        >>> layer.freeze()
        >>> layer.groups, layer(torch.tensor([[1., 3., 2., -4.]]))
        (tensor([0, 0, 1, 1]), tensor([[2., 3.]]))
    """

    groups: Tensor
    weights: Tensor
    frozen: Tensor
    codewords: Tensor | None
    tie_bits: Tensor | None

    def __init__(
        self,
        in_bits: int,
        out_bits: int,
        scorer: str | Scorer | Callable[[Tensor, Tensor], Tensor] | None = None,
        max_group: int | None = None,
        gradient: MemberGradient = "weighted",
        memory: int = 10_000,
        num_classes: int | None = None,
        spare_codewords: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= out_bits < in_bits:
            raise ValueError(
                f"a merge needs 1 <= out_bits < in_bits, got in_bits={in_bits} and "
                f"out_bits={out_bits}"
            )
        self.in_bits = in_bits
        self.target_bits = out_bits
        self.max_group = -(-in_bits // out_bits) if max_group is None else max_group
        check_group_sizes(in_bits, out_bits, self.max_group)
        if gradient not in get_args(MemberGradient):
            raise ValueError(f"gradient must be 'full' or 'weighted', got {gradient!r}")
        self.gradient = gradient
        if scorer is None:
            scorer = "correlation" if num_classes is None else "codewords"
        self.scorer = make_scorer(scorer)
        if self.scorer.needs_codewords and num_classes is None:
            raise ValueError(
                f"the scorer {self.scorer!r} merges bits towards codewords of the classes: "
                "it needs num_classes"
            )
        if spare_codewords < 0 or (spare_codewords > 0 and num_classes is None):
            raise ValueError(
                "spare_codewords must be >= 0, of a layer with num_classes; got "
                f"spare_codewords={spare_codewords}, num_classes={num_classes}"
            )
        self.spare_codewords = spare_codewords
        self.graph = RedundancyGraph(in_bits, memory)
        self.num_classes = num_classes
        self.class_means: ClassMeans | None = None
        codewords = tie_bits = None
        if num_classes is not None:
            check_codebook_size(num_classes, out_bits)
            self.class_means = ClassMeans(num_classes, in_bits, memory)
            codewords, tie_bits = torch.zeros(num_classes, out_bits), tie_bits_of(out_bits)
        self.register_buffer("codewords", codewords)
        self.register_buffer("tie_bits", tie_bits, persistent=False)
        self.register_buffer("groups", torch.arange(in_bits))
        self.register_buffer("weights", torch.ones(in_bits))
        self.register_buffer("frozen", torch.tensor(False))
        # A mirror of it, so that no step waits for the device
        self._is_frozen = False

    @property
    def phase(self) -> Literal["active", "frozen"]:
        """What the layer is doing now."""
        return "frozen" if self._is_frozen else "active"

    @property
    def out_bits(self) -> int:
        """Width of the output now: K while active, K' once frozen."""
        return self.target_bits if self._is_frozen else self.in_bits

    def forward(self, u: Tensor) -> Tensor:
        """Pass u (B, K) on, or merge it to (B, K')."""
        self._check_width(u, "input")
        if not self._is_frozen:
            return u
        merge = self.merge_matrix().to(u.dtype)
        if self.training and self.gradient == "full":
            return _FullGradientMerge.apply(u, merge)
        return u @ merge.T

    def merge_matrix(self) -> Tensor:
        """The merge as a matrix, (K', K) if frozen, else the identity (K, K)."""
        rows = torch.arange(self.out_bits, device=self.groups.device)
        return (self.groups[None, :] == rows[:, None]) * self.weights

    def observe(self, codes: Tensor, labels: Tensor | None = None) -> None:
        """Feed one batch to the graph; without effect once frozen.

        Args:
            codes: (B, K), codes or real outputs (their signs count).
            labels: class ids (B,) or multi-hot rows (B, C); some scorers do without.

        The graph takes in the first batches and some of those that follow: see `Scorer` for
        which. One of these that holds NaN or inf is left out and counted in
        `graph.skipped_batches`. Class means are learned from every batch.

        Raises:
            ValueError: another width, labels of another length, or no labels although the
                scorer needs them.
        """
        if self._is_frozen:
            return
        self._check_width(codes, "codes")
        scorer, graph = self.scorer, self.graph
        if labels is not None:
            check_labels(labels, codes.shape[0])
        elif scorer.needs_labels:
            raise ValueError(
                f"the scorer {scorer!r} needs labels, got None; without labels use "
                "scorers.Correlation('equal')"
            )
        if self.class_means is not None:
            if labels is None:
                raise ValueError(
                    f"codewords of {self.num_classes} classes need labels, got None; "
                    "without labels leave num_classes out"
                )
            self.class_means.update(codes, labels.to(codes.device))
        if graph.seen_batches % scorer.every_n_steps == 0:
            graph.update(codes, *self._measure(codes, labels))
        elif scorer.counts(graph.seen_batches):
            graph.update(codes)
        else:
            graph.pass_over()

    @torch.no_grad()
    def _measure(self, codes: Tensor, labels: Tensor | None) -> Measurement:
        """Let the scorer look."""
        limit = self.scorer.max_items
        signs = gather_rows(raw_sign(codes.float()))[:limit]
        if labels is not None:
            labels = gather_rows(labels.to(codes.device))[:limit]
        return self.scorer.measure(signs, labels)

    @torch.no_grad()
    def freeze(self) -> None:
        """End the active phase: fix the groups and merge from now on.

        Raises:
            RuntimeError: already frozen, or nothing usable was observed.
        """
        if self._is_frozen:
            raise RuntimeError("the layer is frozen already; call activate() first")
        if not bool(self.graph.items > 0):
            raise RuntimeError(
                "the graph has seen no usable batch: call observe(codes, labels) during "
                "training (NMLoss does so) before merging; batches skipped for NaN or "
                f"inf so far: {int(self.graph.skipped_batches)}"
            )
        sizes = self.target_bits, self.max_group
        codewords = None
        if self.scorer.needs_codewords:
            assert self.class_means is not None
            codewords = self._codebook(self.class_means.mean)
            agreement = self.class_means.agreement(codewords.to(self.weights))
            groups, weights = self.scorer.group(self.graph, *sizes, agreement)
        else:
            groups, weights = self.scorer.group(self.graph, *sizes)
        self.groups.copy_(as_on_first(groups))
        self.weights.copy_(as_on_first(weights))
        self._set_frozen(True)
        if self.class_means is not None:
            assert self.codewords is not None
            if codewords is None:
                means = self.class_means.mean @ self.merge_matrix().T
                codewords = self._codebook(means)
            self.codewords.copy_(as_on_first(codewords.to(self.codewords)))

    def _codebook(self, means: Tensor) -> Tensor:
        return semantic_codebook(means, self.target_bits, spare=self.spare_codewords)

    def codeword_targets(self, labels: Tensor) -> Tensor | None:
        """Tell which codes items should have.

        Args:
            labels: class ids (B,) or multi-hot rows (B, C).

        Returns:
            (B, K') float32 of -1 and +1: the codeword of the class, or the vote of several
            (see `majority`). None while active, or without `num_classes`.

        Raises:
            ValueError: labels that do not fit.
        """
        if self.num_classes is None or not self._is_frozen:
            return None
        assert self.codewords is not None
        assert self.tie_bits is not None
        rows = class_rows(labels.to(self.codewords.device), self.num_classes)
        with torch.autocast(rows.device.type, enabled=False):
            return majority(rows, self.codewords.float(), self.tie_bits.float())

    @torch.no_grad()
    def activate(self) -> None:
        """Return to the active phase with an empty graph: all K bits pass again."""
        self.groups.copy_(torch.arange(self.in_bits))
        self.weights.fill_(1)
        if self.codewords is not None:
            self.codewords.zero_()
        self.forget()
        self._set_frozen(False)

    def forget(self) -> None:
        """Empty the graph and what is known of classes; the phase stays."""
        self.graph.reset()
        if self.class_means is not None:
            self.class_means.reset()

    def lift(self, v: Tensor) -> Tensor:
        r"""Spread merged outputs over K dimensions without changing inner products.

        Formula:  e_i = w_i v_g(i) / sqrt(sum over k in group g(i) of w_k²), so that
                  ⟨e, e'⟩ = ⟨v, v'⟩, a negated bit still points the way it did before the
                  merge, and a bit that has no part in its group has none here. For losses
                  whose parameters have a fixed width: their vectors are then merged like
                  the bits, up to one factor a group.

        Args:
            v: (B, K') output of the frozen layer.

        Returns:
            (B, K); v itself while active.
        """
        if not self._is_frozen:
            return v
        return v @ self._lift_matrix(v.dtype)

    def unlift(self, e: Tensor) -> Tensor:
        """Undo `lift`: (B, K) -> (B, K')."""
        if not self._is_frozen:
            return e
        return e @ self._lift_matrix(e.dtype).T

    def _lift_matrix(self, dtype: torch.dtype) -> Tensor:
        """The merge with rows of unit length (K', K), rounded once."""
        merge = self.merge_matrix()
        precise = merge.to(torch.promote_types(dtype, merge.dtype))
        return F.normalize(precise, dim=1).to(dtype)

    def _set_frozen(self, value: bool) -> None:
        self.frozen.fill_(value)
        self._is_frozen = value

    def _check_width(self, u: Tensor, name: str) -> None:
        if u.ndim != 2 or u.shape[1] != self.in_bits:
            raise ValueError(
                f"{name} must have shape (B, {self.in_bits}), got {tuple(u.shape)}"
            )

    @property
    def configuration(self) -> dict[str, Any]:
        """What decides whether a state fits."""
        return {
            "bits": [self.in_bits, self.target_bits],
            "scorer": repr(self.scorer),
            "max_group": self.max_group,
            "gradient": self.gradient,
            "memory": self.graph.memory,
            "num_classes": self.num_classes,
            "spare_codewords": self.spare_codewords,
        }

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._is_frozen = bool(self.frozen)

    def extra_repr(self) -> str:
        """Show sizes and phase in print(model)."""
        return (
            f"{self.in_bits} -> {self.target_bits}, {self.phase}, scorer={self.scorer!r}, "
            f"max_group={self.max_group}, gradient={self.gradient!r}"
        )
