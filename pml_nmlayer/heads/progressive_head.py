"""A chain of NMLayers behind one linear map: the embedder of a PML trainer."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..classes.objectives import class_nll, codeword_nll, label_residual
from ..codes.convention import binarize, sign_ste
from ..labels.checks import check_labels
from ..merging.nm_layer import MemberGradient, NMLayer
from ..merging.scorers.base import Scorer
from ..runtime.configured import Configured
from .folding import Folded, empty_fold, fold_into

Activation = Literal["tanh"] | None
MergeAt = Literal["linear", "tanh"]
Longer = Literal["snapshot", "joint", "drop"]
READOUT = 0.6  # docs/does-it-work.md
LABEL_RIDGE = 0.3  # docs/does-it-work.md
MOST_PASSES = 2  # whose class scores wait for a loss: PML's two streams have two


class ProgressiveHead(Configured):
    r"""Hash head that starts long and redundant and is merged stage by stage.

    Formula:  merge="linear":  h = act(M_s ... M_1 (W x + b) + r);
              merge="tanh":    h = (M_s ... M_1 tanh(W x + b) + r) / (1 + a),
              with the merges M of the stages passed so far; codes are sign(h).
              With `num_classes`, after the first merge,  r = a sum over c of p_c t_c, with
              p = softmax(V x + v), the codewords t_c of the last merge, and
              a = readout sqrt(C / K); otherwise r = a = 0.

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
        longer: what becomes of the longer codes after a merge, so that `codes(x, bits)` and
            `fold(bits)` still give them. "snapshot": this head (not the trunk) is kept,
            folded, as it was right before the merge; a trunk that trains on moves away from
            it. "joint": they are computed from the same neurons, and `NMLoss` takes the
            mean of the loss over all lengths passed so far. "drop": they are gone.
        num_classes: C, where the classes that will be searched for are those of the
            training: a classifier V learns beside the code, each merge finds a codeword
            for every class (see `NMLayer`), and from then on the codewords of the classes
            that the classifier thinks of are added to the outputs. `NMLoss` adds what
            teaches that. None for none of it: for classes that training does not show.
        readout: strength of what is added. Its square root says that the more classes a
            bit has to tell apart, the less a linear map can, and the more the classifier
            has to. 0 leaves the classifier out: codewords are then only pulled to. None
            for 0.6, or nothing without `num_classes`.
        spare_codewords: see `NMLayer`; the same number at each stage.

    Shapes:   x (B, in_features) -> h (B, bits now). All parameters and buffers keep their
              shapes through all stages, and a state saved with other arguments is refused
              (ValueError).
    Returns:  real outputs before sign.
    Raises:   ValueError: lengths not strictly falling or < 1, unknown options,
              merge="tanh" without tanh, num_classes without a merge or more than some
              merge has codes, readout < 0 or without num_classes, as of spare_codewords.
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
    reopen_count: Tensor

    def __init__(
        self,
        in_features: int,
        bits: Sequence[int] = (96, 48, 24, 12),
        activation: Activation = "tanh",
        scorer: str | Scorer | Callable[[Tensor, Tensor], Tensor] | None = None,
        merge: MergeAt = "linear",
        max_group: int | None = None,
        gradient: MemberGradient = "weighted",
        memory: int = 10_000,
        batch_norm: bool = False,
        lift: bool = False,
        longer: Longer = "snapshot",
        num_classes: int | None = None,
        readout: float | None = None,
        spare_codewords: int = 0,
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
        if longer not in get_args(Longer):
            raise ValueError(f"longer must be one of {get_args(Longer)}, got {longer!r}")
        if num_classes is not None and len(bits) == 1:
            raise ValueError(
                f"codewords (num_classes={num_classes}) are found at a merge, but "
                f"bits={bits} has none: put a longer length first or leave num_classes out"
            )
        if spare_codewords != 0 and num_classes is None:
            raise ValueError(
                f"spare_codewords={spare_codewords} is of no use without num_classes"
            )
        if readout is not None and (num_classes is None or readout < 0):
            raise ValueError(
                "readout must be >= 0, of a head with num_classes; got "
                f"readout={readout}, num_classes={num_classes}"
            )
        if num_classes is None:
            readout = 0.0
        elif readout is None:
            readout = READOUT
        self.all_bits = bits
        self.activation = activation
        self.merge = merge
        self.lift = lift
        self.num_classes = num_classes
        self.linear = nn.Linear(in_features, bits[0])
        self.norm = nn.BatchNorm1d(bits[0]) if batch_norm else None
        self.readout = readout
        self.classifier = None
        if num_classes is not None and readout > 0:
            self.classifier = nn.Linear(in_features, num_classes)
        self.layers = nn.ModuleList(
            NMLayer(
                long,
                short,
                scorer,
                max_group,
                gradient,
                memory,
                num_classes,
                spare_codewords,
            )
            for long, short in pairwise(bits)
        )
        self.longer = longer
        self.snapshots = nn.ModuleDict(
            {
                _snapshot_name(length): empty_fold(self, stage)
                for stage, length in enumerate(bits[:-1])
                if longer == "snapshot"
            }
        )
        self._longer_outputs: list[Tensor] = []
        self._passes: list[tuple[Tensor, Tensor]] = []  # outputs, class scores
        self.register_buffer("stage_count", torch.tensor(0))
        self.register_buffer("reopen_count", torch.tensor(0))
        # Mirrors of the two counts, so that no step waits for the device
        self._stage = 0
        self._reopened = 0

    @property
    def stage(self) -> int:
        """Number of merges that hold."""
        return self._stage

    @property
    def changes(self) -> int:
        """Number of merges and reopenings made so far; it never falls."""
        return self._stage + 2 * self._reopened

    @property
    def bits(self) -> int:
        """Code length now."""
        return self.all_bits[self._stage]

    @property
    def finished(self) -> bool:
        """Whether the last merge is done."""
        return self._stage == len(self.all_bits) - 1

    def forward(self, x: Tensor) -> Tensor:
        """Map trunk outputs (B, in_features) to real outputs (B, bits)."""
        u = [self._neurons(x, self.training)]
        for layer in self._merged():
            u.append(layer(u[-1]))
        scores = None if self.classifier is None else self.classifier(x)
        if self.longer == "joint" and self.training:
            self._longer_outputs = [
                self._lifted(v, scores, stage) for stage, v in enumerate(u[:-1])
            ]
        h = self._lifted(u[-1], scores, self._stage)
        if scores is not None and self.training and torch.is_grad_enabled():
            if len(self._passes) == MOST_PASSES:
                self._passes = self._passes[1:]
            self._passes.append((h, scores))
        return h

    def _neurons(self, x: Tensor, training: bool) -> Tensor:
        u = self.linear(x)
        if self.norm is not None:
            u = self.norm(u) if training else _normalize_as_in_eval(self.norm, u)
        return torch.tanh(u) if self.merge == "tanh" else u

    def _merged(self) -> list[NMLayer]:
        # No slice: that of a ModuleList is a new module, which takes its time
        return [self.layers[i] for i in range(self._stage)]  # type: ignore[misc]

    def readout_scale(self, stage: int) -> float:
        """Strength a of what the classifier adds to the outputs of a stage.

        Args:
            stage: number of merges done; 0 before the first, which finds the codewords.
        """
        if self.classifier is None or stage == 0:
            return 0.0
        return self.readout * math.sqrt(self.classifier.out_features / self.all_bits[stage])

    def _activated(self, u: Tensor, scores: Tensor | None, stage: int) -> Tensor:
        a = self.readout_scale(stage)
        if scores is not None and a > 0:
            codewords = self.codewords_of(stage)
            p = scores.softmax(1)
            u = u + (a * (p @ codewords.to(p.dtype))).to(u.dtype)
        if self.merge == "tanh":
            return u / (1 + a)
        return torch.tanh(u) if self.activation else u

    def codewords_of(self, stage: int) -> Tensor:
        """Codewords (C, bits of that stage) that a merge found.

        Args:
            stage: number of merges done then, at least 1; of a head with `num_classes`.
        """
        codewords = self.layers[stage - 1].codewords
        assert isinstance(codewords, Tensor)
        return codewords

    def codewords(self, bits: int | None = None) -> Tensor:
        """Codewords (C, bits) that the merge to a length found.

        Args:
            bits: one of the lengths reached so far; None for the present one.

        Raises:
            ValueError: a length that is not reached, the longest one, which comes before
                any merge, or a head without `num_classes`.
        """
        stage = self._stage_reached(bits)
        if self.num_classes is None or stage == 0:
            raise ValueError(
                "codewords are found at a merge, by a head with num_classes; got stage "
                f"{stage} of a head with num_classes={self.num_classes}"
            )
        return self.codewords_of(stage)

    def _lifted(self, u: Tensor, scores: Tensor | None, stage: int) -> Tensor:
        h = self._activated(u, scores, stage)
        if self.lift and self.training:
            for layer in reversed(self._merged()[:stage]):
                h = layer.lift(h)
        return h

    def take_longer_outputs(self) -> list[Tensor]:
        """Hand over the outputs of all longer codes of the last training forward pass.

        Returns:
            From the longest on, each (B, its length), or lifted like the output itself.
            Nothing before the first merge, without longer="joint", or if they were taken.
        """
        taken, self._longer_outputs = self._longer_outputs, []
        return taken

    def observe(self, embeddings: Tensor, labels: Tensor | None = None) -> None:
        """Feed one batch to the graph of the current stage; without effect at the end.

        Args:
            embeddings: this head's outputs (B, bits), lifted or not; their signs count.
            labels: class ids (B,) or multi-hot rows (B, C).

        Raises:
            ValueError: as `NMLayer.observe`.
        """
        stage = self._stage
        wide = self._is_lifted(embeddings, stage)
        if self.finished:
            return
        if wide:
            embeddings = self._unlifted(embeddings, stage)
        self.layers[stage].observe(embeddings, labels)  # type: ignore[operator]

    def _is_lifted(self, embeddings: Tensor, stage: int) -> bool:
        """Tell whether outputs are lifted; refuse what this head cannot have put out."""
        bits = self.all_bits[stage]
        if embeddings.ndim == 2 and self.lift and embeddings.shape[1] == self.all_bits[0]:
            return True
        if embeddings.ndim != 2 or embeddings.shape[1] != bits:
            raise ValueError(
                f"embeddings must have shape (B, {bits}), got "
                f"{tuple(embeddings.shape)}: pass this head's own outputs"
            )
        return False

    def _unlifted(self, embeddings: Tensor, stage: int) -> Tensor:
        for layer in self._merged()[:stage]:
            embeddings = layer.unlift(embeddings)
        return embeddings

    def codeword_nll(
        self, embeddings: Tensor, labels: Tensor | None, bits: int | None = None
    ) -> Tensor | None:
        r"""Measure how far outputs are from the codewords of their classes.

        Formula:  `codewords.codeword_nll` with t = `NMLayer.codeword_targets` of the merge
                  to that length.

        Args:
            embeddings: this head's outputs (B, bits), lifted or not.
            labels: class ids (B,) or multi-hot rows (B, C).
            bits: which of the lengths reached so far the outputs have; None for the
                present one.

        Returns:
            0-d, in nats a bit, 0 for an empty batch; None if there are no codewords:
            without `num_classes`, or before the first merge.

        Raises:
            ValueError: labels are missing or do not fit, outputs of another width, or a
                length that is not reached.
        """
        stage = self._stage_reached(bits)
        if self.num_classes is None or stage == 0:
            return None
        if labels is None:
            raise ValueError(f"codewords of {self.num_classes} classes need labels")
        check_labels(labels, embeddings.shape[0])
        embeddings = self._at_stage(embeddings, stage)
        targets = self._merged()[stage - 1].codeword_targets(labels)
        assert targets is not None
        return codeword_nll(embeddings, targets, tanh=self.activation == "tanh")

    def label_residual(
        self, embeddings: Tensor, labels: Tensor | None, bits: int | None = None
    ) -> Tensor | None:
        r"""Measure how well labels can be read from the bits by a linear map.

        Formula:  `codewords.label_residual` of b = sign h, with ridge 0.3 and
                  dL/dh := dL/db; for linear outputs of b = sign tanh u.

        Args:
            embeddings: this head's outputs (B, bits), lifted or not.
            labels: class ids (B,) or multi-hot rows (B, C).
            bits: as for `codeword_nll`.

        Returns:
            0-d, in squared labels an item, 0 for an empty batch; None without
            `num_classes`.

        Raises:
            ValueError: as for `codeword_nll`.
        """
        stage = self._stage_reached(bits)
        if self.num_classes is None:
            return None
        if labels is None:
            raise ValueError(f"reading {self.num_classes} labels from codes needs labels")
        check_labels(labels, embeddings.shape[0])
        outputs = self._at_stage(embeddings, stage)
        if self.activation is None:
            outputs = outputs.tanh()  # so that a sure bit is left in peace
        return label_residual(sign_ste(outputs), labels, self.num_classes, LABEL_RIDGE)

    def _stage_reached(self, bits: int | None) -> int:
        reached = self.all_bits[: self._stage + 1]
        bits = self.bits if bits is None else bits
        if bits not in reached:
            raise ValueError(
                f"bits must be a length reached so far, {', '.join(map(str, reached))}; "
                f"got {bits}"
            )
        return reached.index(bits)

    def _at_stage(self, embeddings: Tensor, stage: int) -> Tensor:
        """Check outputs of a stage, and undo their lift."""
        if self._is_lifted(embeddings, stage):
            return self._unlifted(embeddings, stage)
        return embeddings

    def class_nll(self, embeddings: Tensor, labels: Tensor | None) -> Tensor | None:
        r"""Measure how well the classifier told the classes of the last forward passes.

        Formula:  `codewords.class_nll` of the scores V x + v of the pass that returned
                  `embeddings`; if they were sliced or put together since, of the latest
                  passes that have as many items together. They are forgotten then.

        Args:
            embeddings: outputs of this head in training mode (as two of them together, in
                PML's TwoStreamMetricLoss).
            labels: class ids (B,) or multi-hot rows (B, C).

        Returns:
            0-d, in nats an item, 0 for an empty batch; None without a classifier.

        Raises:
            ValueError: labels are missing or do not fit, or no such pass.
        """
        if self.classifier is None:
            return None
        if labels is None:
            raise ValueError(f"a classifier of {self.num_classes} classes needs labels")
        check_labels(labels, embeddings.shape[0])
        passes, self._passes = self._passes, []
        for output, scores in passes:
            if output is embeddings:
                return class_nll(scores, labels)
        for first in reversed(range(len(passes))):
            latest = [scores for _, scores in passes[first:]]
            if sum(len(scores) for scores in latest) == len(embeddings):
                return class_nll(torch.cat(latest), labels)
        raise ValueError(
            f"the loss got {len(embeddings)} embeddings, but the head's last forward "
            f"passes in training mode had {[len(output) for output, _ in passes]} items: "
            "pass the head's own outputs, once, or use class_weight=0"
        )

    def forget_passes(self) -> None:
        """Let go of the forward passes that `class_nll` could be asked about."""
        self._passes = []

    @property
    def current_layer(self) -> NMLayer:
        """The layer that observes now, and merges next.

        Raises:
            RuntimeError: all stages are done.
        """
        if self.finished:
            raise RuntimeError(
                f"all {len(self.layers)} merges of {self.all_bits} are done already"
            )
        layer = self.layers[self._stage]
        assert isinstance(layer, NMLayer)
        return layer

    def merge_next(self) -> None:
        """Freeze the graph of this stage, merge, and go to the next stage.

        Raises:
            RuntimeError: all stages are done, or nothing usable was observed since the last
                merge.
        """
        self.current_layer.freeze()
        if self.longer == "snapshot":
            fold_into(self._snapshot(self._stage), self, self._stage)
        self._set_counts(self._stage + 1, self._reopened)

    def reopen(self) -> None:
        """Undo the last merge: its neurons are separate again, and a new graph is learned.

        What the neurons learned while they were merged stays. Stages may so have several
        active and frozen phases.

        Raises:
            RuntimeError: nothing is merged.
        """
        if self._stage == 0:
            raise RuntimeError("nothing is merged yet, so there is nothing to reopen")
        if not self.finished:
            self.current_layer.forget()  # it watched neurons that are no more
        self._set_counts(self._stage - 1, self._reopened + 1)
        self.current_layer.activate()

    def _set_counts(self, stage: int, reopened: int) -> None:
        self._stage, self._reopened = stage, reopened
        self.stage_count.fill_(stage)
        self.reopen_count.fill_(reopened)

    def merge_matrix(self, stage: int | None = None) -> Tensor:
        """The first merges as one matrix (bits then, bits[0]); None for all so far."""
        weight = self.linear.weight
        matrix = torch.eye(self.all_bits[0], dtype=weight.dtype, device=weight.device)
        for layer in self._merged()[:stage]:
            matrix = layer.merge_matrix() @ matrix
        return matrix

    @torch.no_grad()
    def codes(self, x: Tensor, bits: int | None = None) -> Tensor:
        """Codes (B, bits) of -1 and +1, computed as in eval mode.

        Args:
            x: trunk outputs (B, in_features).
            bits: a code length of the chain that is reached already (see `longer`); None
                for the present one.

        Raises:
            ValueError: the outputs hold NaN, or there is no code of that length.
        """
        stage = self._stage_of(bits)
        if stage < self._stage and self.longer == "snapshot":
            return binarize(self._snapshot(stage)(x))
        u = self._neurons(x, training=False)
        for layer in self._merged()[:stage]:
            u = layer(u)
        scores = None if self.classifier is None else self.classifier(x)
        return binarize(self._activated(u, scores, stage))

    def fold(self, bits: int | None = None) -> nn.Module:
        r"""Compose the merges so far into plain modules for serving.

        Formula:  merge="linear":  Linear(M W, M b), then Tanh if the head has it;
                  merge="tanh":    Linear(W, b), Tanh, Linear(M) without bias.
                  With a classifier, after a merge, a `Readout` takes the place of the
                  Linear before Tanh, or of all three.

        Args:
            bits: as for `codes`.

        Returns:
            A new module, equal to this head in eval mode up to rounding. Later training or
            merging of the head does not change it.

        Raises:
            ValueError: there is no code of that length.
        """
        stage = self._stage_of(bits)
        if stage < self._stage and self.longer == "snapshot":
            return self._snapshot(stage).as_plain_modules()
        folded = empty_fold(self, stage)
        fold_into(folded, self, stage)
        return folded.as_plain_modules()

    def _snapshot(self, stage: int) -> Folded:
        folded = self.snapshots[_snapshot_name(self.all_bits[stage])]
        assert isinstance(folded, Folded)
        return folded

    def _stage_of(self, bits: int | None) -> int:
        if bits is None:
            return self._stage
        kept = self.all_bits[: self._stage + 1]
        kept = kept[-1:] if self.longer == "drop" else kept
        if bits not in kept:
            raise ValueError(
                f"this head has codes of {', '.join(map(str, kept))} bits, not of {bits}: "
                f"of bits={self.all_bits}, {self._stage} merges are done, and it was made "
                f"with longer={self.longer!r}"
            )
        return self.all_bits.index(bits)

    @property
    def configuration(self) -> dict[str, Any]:
        """What decides whether a state fits, besides that of the layers."""
        return {
            "in_features": self.linear.in_features,
            "bits": self.all_bits,
            "activation": self.activation,
            "merge": self.merge,
            "batch_norm": self.norm is not None,
            "lift": self.lift,
            "longer": self.longer,
            "num_classes": self.num_classes,
            "readout": self.readout,
        }

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._stage = int(self.stage_count)
        self._reopened = int(self.reopen_count)

    def __getstate__(self) -> dict[str, Any]:
        """For copies: without outputs, which hang on a graph that cannot be copied."""
        return {**self.__dict__, "_longer_outputs": [], "_passes": []}

    def extra_repr(self) -> str:
        """Show lengths and stage in print(model)."""
        return (
            f"bits={self.all_bits}, stage={self._stage}, activation={self.activation!r}, "
            f"merge={self.merge!r}, lift={self.lift}, longer={self.longer!r}"
        )


def _snapshot_name(bits: int) -> str:
    return f"bits_{bits}"  # names that begin with a digit break PML's record keeper


def _normalize_as_in_eval(norm: nn.BatchNorm1d, u: Tensor) -> Tensor:
    return F.batch_norm(
        u, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )
