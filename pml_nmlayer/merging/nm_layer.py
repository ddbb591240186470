"""The Neurons Merging Layer: K bits in, K' bits out once the graph is frozen."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..codes.convention import raw_sign
from ..labels.checks import check_labels
from ..runtime.configured import Configured
from ..runtime.mirror import Mirror
from ..runtime.process_group import as_on_first, gather_rows
from .graph import RedundancyGraph
from .partition import check_group_sizes
from .scorers.base import Measurement, Scorer
from .scorers.registry import make_scorer


class Merge(NamedTuple):
    """Which bits make up a merged bit, and with which weights."""

    groups: Tensor
    """(K,) int64, from 0 to K' - 1."""
    weights: Tensor
    """(K,), signed; the absolute weights of a group sum to one."""

    def matrix(self, bits: int) -> Tensor:
        """Write it as a matrix (bits, K).

        Args:
            bits: number of groups K'.
        """
        rows = torch.arange(bits, device=self.groups.device)
        return (self.groups[None, :] == rows[:, None]) * self.weights


class NMLayer(Configured):
    r"""Learn which bits are redundant, then merge them.

    Formula:  active phase:  out = u.
              frozen phase:  out_g = sum over k in group g of w_k u_k,  sum of |w_k| = 1,
              with a sign in w_k where bit k is the negation of its group.

    In the active phase the layer passes its input on, and `observe` feeds the redundancy
    graph. `freeze` cuts the graph into groups. From then on the layer merges. `activate`
    starts over with an empty graph.

    In a torch process group `observe` and `freeze` are calls that all processes make
    together. The graph is that of the union of their batches, and all get the groups of
    process 0. A process without items passes an empty batch.

    Args:
        in_bits: K.
        out_bits: K' < K, width of the output in the frozen phase.
        scorer: what is measured and merged. "correlation", "drop_one", "random", "prune",
            or "codewords", whose `freeze` needs an agreement. Or a `Scorer`, or a function
            (codes, labels) -> (K, K). `Scorer` says which batches and items it sees.
        max_group: largest number of bits in a group. None for ceil(K / K'), which makes all
            groups equally large where K' divides K.
        memory: number of counted items that the running averages remember (see
            `RedundancyGraph`).

    Shapes:   u (B, K) -> (B, K) active, (B, K') frozen. Every buffer keeps its shape, so
              strict loading works in any phase. Phase, groups and graph are in the state. A
              state saved with other arguments is refused (ValueError).
    Returns:  tensor of the dtype of u, with gradients to every bit of non-zero weight.
    Raises:   ValueError: not 1 <= K' < K, max_group too small, an unknown scorer, or input
              of another width.
              RuntimeError: buffers that were averaged, which makes groups of fractions.
    Source:   Fu et al., IJCAI 2019, arXiv:1809.02302.
              Differs: the abstract leaves the update of the graph, the weights, signs and
              the bound on groups open; here they are as stated.

    Example:
        >>> from pml_nmlayer.merging.scorers import Correlation
        >>> layer = NMLayer(4, 2, scorer=Correlation(weighting="equal"))
        >>> layer.observe(torch.tensor([[1., 1, 1, -1], [-1, -1, 1, -1], [1, 1, -1, 1]]))
        >>> layer.freeze()
        >>> layer.groups, layer(torch.tensor([[1., 3., 2., -4.]]))
        (tensor([0, 0, 1, 1]), tensor([[2., 3.]]))
    """

    groups: Tensor
    weights: Tensor
    frozen: Tensor
    fingerprint: Tensor

    def __init__(
        self,
        in_bits: int,
        out_bits: int,
        *,
        scorer: str | Scorer | Callable[[Tensor, Tensor], Tensor] = "correlation",
        max_group: int | None = None,
        memory: int = 10_000,
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
        self.scorer = make_scorer(scorer)
        self.graph = RedundancyGraph(in_bits, memory=memory)
        self.register_buffer("groups", torch.arange(in_bits))
        self.register_buffer("weights", torch.ones(in_bits))
        self.register_buffer("frozen", torch.tensor(0))  # a bool has no average
        self.register_buffer("fingerprint", _fingerprint(self.groups))
        self._phase = Mirror()

    @property
    def is_frozen(self) -> bool:
        """Whether the layer merges."""
        training, check = self.training, self._check_groups
        return bool(self._phase.of(self.frozen, training=training, check=check))

    @property
    def phase(self) -> Literal["active", "frozen"]:
        """What the layer is doing now."""
        return "frozen" if self.is_frozen else "active"

    @property
    def out_bits(self) -> int:
        """Width of the output now: K while active, K' once frozen."""
        return self.target_bits if self.is_frozen else self.in_bits

    def forward(self, u: Tensor) -> Tensor:
        """Pass u (B, K) on, or merge it to (B, K')."""
        self._check_width(u, "input")
        return u @ self.merge_matrix().to(u.dtype).T if self.is_frozen else u

    def merge_matrix(self) -> Tensor:
        """The merge as a matrix, (K', K) if frozen, else the identity (K, K)."""
        return Merge(self.groups, self.weights).matrix(self.out_bits)

    def observe(self, codes: Tensor, labels: Tensor | None = None) -> None:
        """Feed one batch to the graph; without effect once frozen.

        The graph takes in the first batches and some of those that follow: see `Scorer` for
        which. One of these that holds NaN or inf is left out and counted in
        `graph.skipped_batches`.

        Args:
            codes: (B, K), codes or real outputs (their signs count).
            labels: class ids (B,) or multi-hot rows (B, C); some scorers do without.

        Raises:
            ValueError: another width, labels of another length, or no labels although the
                scorer needs them.
        """
        if self.is_frozen:
            return
        self._check_width(codes, "codes")
        scorer, graph = self.scorer, self.graph
        if labels is not None:
            check_labels(labels, codes.shape[0])
        elif scorer.needs_labels:
            raise ValueError(
                f"the scorer {scorer!r} needs labels, got None; without labels use "
                "scorers.Correlation(weighting='equal')"
            )
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
    def plan(self, agreement: Tensor | None = None) -> Merge:
        """Find the merge that `freeze` would make now, without making it.

        Args:
            agreement: E[b tᵀ] (K, K') of bits and the codes t that items should have; of
                use to a scorer that has `needs_codewords`, which cannot do without.

        Raises:
            RuntimeError: already frozen, nothing usable was observed, or no agreement.
        """
        if self.is_frozen:
            raise RuntimeError("the layer is frozen already; call activate() first")
        if not bool(self.graph.items > 0):
            raise RuntimeError(
                "the graph has seen no usable batch, so there is nothing to merge by. "
                "Either the loss is no NMLoss(loss, head) of this very head, or it is in "
                "eval mode (freeze_these, or a missing train()), or it runs under "
                "torch.no_grad(), or no batch has come since the last merge; without "
                "NMLoss call observe(codes, labels). Batches skipped for NaN or inf so "
                f"far: {int(self.graph.skipped_batches)}"
            )
        sizes = self.target_bits, self.max_group
        if self.scorer.needs_codewords:
            if agreement is None:
                raise RuntimeError(
                    f"the scorer {self.scorer!r} merges bits towards codewords: pass "
                    "freeze(agreement=...), or use ProgressiveHead(..., num_classes=C)"
                )
            groups, weights = self.scorer.group(self.graph, *sizes, agreement)
        else:
            groups, weights = self.scorer.group(self.graph, *sizes)
        return Merge(as_on_first(groups), as_on_first(weights).to(self.weights))

    @torch.no_grad()
    def freeze(self, agreement: Tensor | None = None, *, plan: Merge | None = None) -> None:
        """End the active phase: fix the groups and merge from now on.

        Args:
            agreement: see `plan`.
            plan: what `plan` returned; None to find it now.

        Raises:
            RuntimeError: as `plan`.
        """
        groups, weights = self.plan(agreement) if plan is None else plan
        self.groups.copy_(groups)
        self.weights.copy_(weights)
        self._set_frozen(True)

    @torch.no_grad()
    def activate(self) -> None:
        """Return to the active phase with an empty graph: all K bits pass again."""
        self.groups.copy_(torch.arange(self.in_bits))
        self.weights.fill_(1)
        self.graph.reset()
        self._set_frozen(False)

    def lift(self, v: Tensor) -> Tensor:
        r"""Spread merged outputs over K dimensions without changing inner products.

        Formula:  e_i = w_i v_g(i) / sqrt(sum over k in group g(i) of w_k²), so that
                  ⟨e, e'⟩ = ⟨v, v'⟩. A negated bit still points the way it did before the
                  merge, and a bit that has no part in its group has none here. Vectors of a
                  loss are then merged like the bits, up to one factor a group.

        Args:
            v: (B, K') output of the frozen layer.

        Returns:
            (B, K); v itself while active.
        """
        return v @ self._lift_matrix(v.dtype) if self.is_frozen else v

    def unlift(self, e: Tensor) -> Tensor:
        """Undo `lift`: (B, K) -> (B, K')."""
        return e @ self._lift_matrix(e.dtype).T if self.is_frozen else e

    def _lift_matrix(self, dtype: torch.dtype) -> Tensor:
        """The merge with rows of unit length (K', K), rounded once."""
        merge = self.merge_matrix()
        precise = merge.to(torch.promote_types(dtype, merge.dtype))
        return F.normalize(precise, dim=1).to(dtype)

    def _set_frozen(self, value: bool) -> None:
        self.fingerprint.copy_(_fingerprint(self.groups))
        self.frozen.fill_(value)
        self._phase.set(value)

    def look_again(self) -> None:
        """Read the phase anew at the next call, whatever was remembered."""
        self._phase.set(self._phase.value)

    def _check_groups(self) -> None:
        """Refuse groups that are no longer what was written, such as averages."""
        if not bool(self.fingerprint == _fingerprint(self.groups)):
            raise RuntimeError(
                "the groups of this NMLayer are not those that a merge made: its buffers "
                "were averaged or changed. Average parameters alone, and copy buffers: "
                "AveragedModel(model, use_buffers=False)"
            )

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
            "memory": self.graph.memory,
        }

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        name, groups = f"{prefix}fingerprint", state_dict.get(f"{prefix}groups")
        if name not in state_dict and isinstance(groups, Tensor):  # of version 0.1.0
            state_dict[name] = _fingerprint(groups)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._phase.set(int(self.frozen))

    def extra_repr(self) -> str:
        """Show sizes and phase in print(model)."""
        return f"{self.in_bits} -> {self.target_bits}, {self.phase}, scorer={self.scorer!r}"


def _fingerprint(groups: Tensor) -> Tensor:
    """One number that changes with the groups; that of an average is no average."""
    place = torch.arange(1, len(groups) + 1, device=groups.device)
    return (place * (groups + 1).square()).sum()
