"""A chain of NMLayers behind one linear map: the embedder of a PML trainer."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..codes import binarize
from ..scorers import Scorer
from .folding import fold_head
from .nm_layer import MemberGradient, NMLayer

Activation = Literal["tanh"] | None
MergeAt = Literal["linear", "tanh"]


class ProgressiveHead(nn.Module):
    r"""Hash head that starts long and redundant and is merged stage by stage.

    Formula:  merge="linear":  h = act(M_s ... M_1 (W x + b));
              merge="tanh":    h = M_s ... M_1 tanh(W x + b),
              with the merges M of the stages passed so far; codes are sign(h).

    Put it where a PML trainer has its embedder, wrap the loss in `NMLoss(loss, head)` so
    that the graph sees each batch, and let the `ProgressiveMerging` hook call `merge_next`.

    Args:
        in_features: width of the trunk's output.
        bits: code lengths, strictly falling; one length means no merging at all.
        activation: "tanh", or None for linear outputs.
        scorer: see `NMLayer`.
        merge: merge before the activation ("linear", folds into one Linear) or after it.
        max_group: see `NMLayer`; the same bound at each stage.
        gradient: see `NMLayer`.
        memory: see `NMLayer`.
        batch_norm: normalise the neurons over the batch before they are merged.
        lift: in training mode, return outputs of constant width bits[0] (see
            `NMLayer.lift`) for losses with per-dimension parameters or memories. In eval
            mode the output is always the code itself.

    Shapes:   x (B, in_features) -> h (B, bits now). All parameters and buffers keep their
              shapes through all stages.
    Returns:  real outputs before sign.
    Raises:   ValueError: lengths not strictly falling or < 1, unknown options, or
              merge="tanh" without tanh.
    Source:   Fu et al., IJCAI 2019, arXiv:1809.02302.
              Differs: where the merge stands, and that the next stage's active phase begins
              with the merge, are decided here.

    Example:
        >>> head = ProgressiveHead(16, bits=(8, 4))
        >>> head.observe(head(torch.randn(32, 16)), torch.arange(32) % 4)
        >>> head.merge_next()
        >>> head.bits, head.finished, head.codes(torch.randn(5, 16)).shape
        (4, True, torch.Size([5, 4]))
    """

    stage_count: Tensor

    def __init__(
        self,
        in_features: int,
        bits: Sequence[int] = (96, 48, 24, 12),
        activation: Activation = "tanh",
        scorer: str | Scorer | Callable[[Tensor, Tensor], Tensor] = "correlation",
        merge: MergeAt = "linear",
        max_group: int | None = None,
        gradient: MemberGradient = "full",
        memory: int = 10_000,
        batch_norm: bool = False,
        lift: bool = False,
    ) -> None:
        super().__init__()
        bits = tuple(bits)
        if not bits or bits[-1] < 1 or any(a <= b for a, b in pairwise(bits)):
            raise ValueError(f"bits must be strictly falling lengths >= 1, got {bits}")
        if activation not in ("tanh", None):
            raise ValueError(f"activation must be 'tanh' or None, got {activation!r}")
        if merge not in get_args(MergeAt):
            raise ValueError(f"merge must be 'linear' or 'tanh', got {merge!r}")
        if merge == "tanh" and activation is None:
            raise ValueError("merge='tanh' merges after a tanh; use activation='tanh'")
        self.all_bits = bits
        self.activation = activation
        self.merge = merge
        self.lift = lift
        self.linear = nn.Linear(in_features, bits[0])
        self.norm = nn.BatchNorm1d(bits[0]) if batch_norm else None
        self.layers = nn.ModuleList(
            NMLayer(long, short, scorer, max_group, gradient, memory)
            for long, short in pairwise(bits)
        )
        self.register_buffer("stage_count", torch.tensor(0))
        self._stage = 0  # mirrors `stage_count`, so that no step waits for the device

    @property
    def stage(self) -> int:
        """Number of merges done so far."""
        return self._stage

    @property
    def bits(self) -> int:
        """Code length now."""
        return self.all_bits[self._stage]

    @property
    def finished(self) -> bool:
        """Whether the last merge is done."""
        return self._stage == len(self.layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map trunk outputs (B, in_features) to real outputs (B, bits)."""
        h = self._outputs(x, self.training)
        if self.lift and self.training:
            for layer in reversed(self._merged()):
                h = layer.lift(h)
        return h

    def _outputs(self, x: Tensor, training: bool) -> Tensor:
        u = self.linear(x)
        if self.norm is not None:
            u = self.norm(u) if training else _normalize_as_in_eval(self.norm, u)
        if self.merge == "tanh":
            u = torch.tanh(u)
        for layer in self._merged():
            u = layer(u)
        return torch.tanh(u) if self.merge == "linear" and self.activation else u

    def _merged(self) -> list[NMLayer]:
        return list(self.layers[: self._stage])  # type: ignore[arg-type]

    def observe(self, embeddings: Tensor, labels: Tensor | None = None) -> None:
        """Feed one batch to the graph of the current stage; without effect at the end.

        Args:
            embeddings: this head's outputs (B, bits), lifted or not; their signs count.
            labels: class ids (B,) or multi-hot rows (B, C).

        Raises:
            ValueError: as `NMLayer.observe`.
        """
        if self.finished:
            return
        if self.lift and embeddings.ndim == 2 and embeddings.shape[1] == self.all_bits[0]:
            for layer in self._merged():
                embeddings = layer.unlift(embeddings)
        current = self.layers[self._stage]
        assert isinstance(current, NMLayer)
        current.observe(embeddings, labels)

    def merge_next(self) -> None:
        """Freeze the graph of this stage, merge, and go to the next stage.

        Raises:
            RuntimeError: all stages are done, or nothing usable was observed since the last
                merge.
        """
        if self.finished:
            raise RuntimeError(
                f"all {len(self.layers)} merges of {self.all_bits} are done already"
            )
        current = self.layers[self._stage]
        assert isinstance(current, NMLayer)
        current.freeze()
        self._stage += 1
        self.stage_count.fill_(self._stage)

    def merge_matrix(self) -> Tensor:
        """All merges so far as one matrix (bits, bits[0])."""
        matrix = torch.eye(self.all_bits[0], device=self.stage_count.device)
        for layer in self._merged():
            matrix = layer.merge_matrix() @ matrix
        return matrix

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """Codes (B, bits) of -1 and +1, computed as in eval mode.

        Args:
            x: trunk outputs (B, in_features).

        Raises:
            ValueError: the outputs hold NaN.
        """
        return binarize(self._outputs(x, training=False))

    def fold(self) -> nn.Module:
        r"""Compose the merges so far into plain modules for serving.

        Formula:  merge="linear":  Linear(M W, M b), then Tanh if the head has it;
                  merge="tanh":    Linear(W, b), Tanh, Linear(M) without bias.

        Returns:
            A new module, equal to this head in eval mode up to rounding. Later training or
            merging of the head does not change it.
        """
        return fold_head(self)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._stage = int(self.stage_count)

    def extra_repr(self) -> str:
        """Show lengths and stage in print(model)."""
        return (
            f"bits={self.all_bits}, stage={self._stage}, activation={self.activation!r}, "
            f"merge={self.merge!r}, lift={self.lift}"
        )


def _normalize_as_in_eval(norm: nn.BatchNorm1d, u: Tensor) -> Tensor:
    return F.batch_norm(
        u, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )
