"""The embedder of a PML trainer: a long redundant code that is merged to a short one."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..classes.read_out import STRENGTH, ClassReadOut
from ..classes.stage_means import StageMeans
from ..codes.convention import binarize
from ..merging.chain import MergeChain
from ..merging.scorers.base import Scorer
from ..runtime.compiling import uncompiled
from ..runtime.configured import Configured
from .adapting import Adapting
from .folding import Folded, empty_fold, fold_into
from .longer_codes import Longer, LongerCodes, check_reached
from .neurons import merged_neurons
from .old_names import OldNames, renamed_lift
from .old_states import translate
from .outputs import HeadOutputs, carry, unpack
from .staged import Staged
from .unfinished import warn_if_unfinished
from .width import has_constant_width

Activation = Literal["tanh"] | None


class ProgressiveHead(Adapting, OldNames, Staged, Configured):
    r"""Hash head that starts long and redundant and is merged stage by stage.

    Formula:  h = act(M_s ... M_1 (W x + b) + r), with the merges M of the stages passed so
              far; codes are sign(h). With `num_classes`, r is what the `ClassReadOut` adds,
              from the first merge on, or from the start if there is no merge.

    Put it where a PML trainer has its embedder and wrap the loss in `NMLoss(loss, head)`,
    so that the graph sees each batch. Let the hook `ProgressiveMerging` call `merge_next`.

    Outputs in training mode carry with each row what the loss needs to know of it (see
    `CarriedOutputs`). Nothing is kept from one call to the next.

    Args:
        in_features: width of the trunk's output.
        bits: code lengths, strictly falling; one length, or a number, means no merge.
        num_classes: C, where the classes that will be searched for are those of the
            training: adds a `ClassReadOut`. Each merge finds a codeword for every class; a
            head without merges starts with codewords that are far apart. None for none.
        activation: "tanh", or None for linear outputs.
        scorer: see `NMLayer`. None for "codewords" with `num_classes`, else "correlation".
        max_group: see `NMLayer`.
        memory: see `NMLayer`.
        batch_norm: normalise the neurons over the batch before they are merged.
        constant_width: in training mode, return outputs of width bits[0] in all stages, for
            losses with vectors or memories of that width (see `NMLayer.lift`). `NMLoss`
            switches it on by itself. In eval mode the output is always the code itself.
        longer: what becomes of the longer codes after a merge, for `codes(x, bits)` and
            `fold(bits)`. By "snapshot" this head is kept, folded, as it was right before
            the merge. It ages, since the trunk trains on. By "joint" they are computed from
            the same neurons, and `NMLoss` takes the mean of the loss over all lengths
            passed so far. By "drop" they are gone.
        readout: strength of the class read-out; 0 leaves its classifier out. None for 0.6.
        spare_codewords: see `ClassReadOut`.
        lift: old name of `constant_width`.

    Shapes:   x (B, in_features) -> h (B, bits now). All parameters and buffers keep their
              shapes through all stages. A state saved with other arguments is refused
              (ValueError).
    Returns:  real outputs before sign.
    Raises:   ValueError: lengths not strictly falling or < 1, unknown options, more classes
              than some code has words; readout or spare_codewords without num_classes.
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

    def __init__(
        self,
        in_features: int,
        bits: int | Sequence[int] = (96, 12),
        *,
        num_classes: int | None = None,
        activation: Activation = "tanh",
        scorer: str | Scorer | Callable[[Tensor, Tensor], Tensor] | None = None,
        max_group: int | None = None,
        memory: int = 10_000,
        batch_norm: bool = False,
        constant_width: bool = False,
        longer: Longer = "snapshot",
        readout: float | None = None,
        spare_codewords: int | None = None,
        lift: bool | None = None,
    ) -> None:
        super().__init__()
        bits = (bits,) if isinstance(bits, int) else tuple(bits)
        if activation not in ("tanh", None):
            raise ValueError(f"activation must be 'tanh' or None, got {activation!r}")
        if num_classes is None and (readout is not None or spare_codewords):
            raise ValueError(
                "readout and spare_codewords are of no use without num_classes; got "
                f"readout={readout}, spare_codewords={spare_codewords}, num_classes=None"
            )
        scorer = scorer or ("correlation" if num_classes is None else "codewords")
        chain = MergeChain(bits, scorer=scorer, max_group=max_group, memory=memory)
        self.all_bits = bits
        self.activation = activation
        self.num_classes = num_classes
        self.constant_width = constant_width if lift is None else renamed_lift(lift)
        self.longer = longer
        self.linear = nn.Linear(in_features, bits[0])
        self.norm = nn.BatchNorm1d(bits[0]) if batch_norm else None
        self.classes: ClassReadOut | None = None
        self.class_means: StageMeans | None = None
        if num_classes is not None:
            self.classes = ClassReadOut(
                in_features,
                num_classes,
                bits[1:] or bits,
                strength=STRENGTH if readout is None else readout,
                spare_codewords=spare_codewords,
            )
            self.class_means = StageMeans(num_classes, bits[:-1], memory)
            if len(bits) == 1:
                self.classes.spread_codewords(bits[0])
        elif chain.layers and chain.current_layer.scorer.needs_codewords:
            raise ValueError(
                f"the scorer {scorer!r} merges bits towards codewords: it needs num_classes"
            )
        self.merges = chain
        self.snapshots = LongerCodes(bits, longer, self._empty_fold)

    def forward(self, x: Tensor) -> Tensor:
        """Map trunk outputs (B, in_features) to real outputs (B, bits)."""
        if not self.training:
            return self._code(x, self.stage, training=False)
        return carry(self.outputs(x), self.stage)

    def outputs(self, x: Tensor) -> HeadOutputs:
        """Map trunk outputs to all that `NMLoss` may ask about them.

        Args:
            x: (B, in_features).

        Returns:
            As in this mode; longer codes in training mode alone.
        """
        joint = self.longer == "joint" and self.training
        u, scores = self._merged(x, self.stage, training=self.training, joint=joint)
        outputs = [self._activated(v, scores) for v in u]
        first = self.stage + 1 - len(u)
        if self.constant_width and self.training:
            outputs = [self.merges.lift(h, first + i) for i, h in enumerate(outputs)]
        return HeadOutputs(outputs[-1], scores, tuple(outputs[:-1]))

    def _merged(
        self, x: Tensor, stage: int, *, training: bool, joint: bool = False
    ) -> tuple[list[Tensor], Tensor | None]:
        classifier = None if self.classes is None else self.classes.classifier
        parts = self.linear, self.norm, self.merges.merged(stage), classifier
        return merged_neurons(x, *parts, training=training, joint=joint)

    def _activated(self, u: Tensor, scores: Tensor | None) -> Tensor:
        if self.classes is not None:
            u = self.classes.add(u, scores)
        return torch.tanh(u) if self.activation else u

    def _code(self, x: Tensor, stage: int, training: bool) -> Tensor:
        (u,), scores = self._merged(x, stage, training=training)
        return self._activated(u, scores)

    def unpack(self, embeddings: Tensor | HeadOutputs) -> HeadOutputs:
        """Take outputs of this head apart.

        Args:
            embeddings: what this head or `outputs` returned, also with rows moved.

        Raises:
            ValueError: it does not put out such outputs now.
        """
        outputs, stage = unpack(embeddings)
        if stage not in (None, self.stage):
            raise ValueError(
                f"these outputs were made after {stage} merges, and the head has made "
                f"{self.stage} by now: compute them anew after a merge"
            )
        has_constant_width(outputs.embeddings, self.bits, self._constant)
        return outputs

    def code_outputs(self, embeddings: Tensor, bits: int) -> Tensor:
        """Turn outputs of a length into those of the code.

        Args:
            embeddings: (B, bits), or of constant width.
            bits: a length reached so far.

        Returns:
            (B, bits), with gradient.

        Raises:
            ValueError: outputs of another width, or a length that is not reached.
        """
        if has_constant_width(embeddings, bits, self._constant):
            embeddings = self.merges.unlift(embeddings, self.all_bits.index(bits))
        return embeddings

    def observe(
        self, embeddings: Tensor | HeadOutputs, labels: Tensor | None = None
    ) -> None:
        """Feed one batch to the graph of the current stage; without effect at the end.

        Args:
            embeddings: this head's outputs; their signs count.
            labels: class ids (B,) or multi-hot rows (B, C).

        Raises:
            ValueError: as `NMLayer.observe`, or no labels although the head has classes.
        """
        outputs = self.unpack(embeddings).embeddings
        if not self.finished:
            uncompiled(self._look)(outputs, labels)

    def _look(self, outputs: Tensor, labels: Tensor | None) -> None:
        """Observe outside of compiled code: how, depends on the number of the batch."""
        if has_constant_width(outputs, self.bits, self._constant):
            outputs = self.merges.unlift(outputs)
        if self.class_means is not None:
            if labels is None:
                raise ValueError(
                    f"codewords of {self.num_classes} classes need labels, got None; "
                    "without labels leave num_classes out"
                )
            means = self.class_means.of(self.bits)
            means.update(outputs, labels.to(outputs.device))
        self.merges.observe(outputs, labels)

    @property
    def _constant(self) -> int | None:
        return self.all_bits[0] if self.constant_width else None

    def _merge(self) -> None:
        layer, stage, classes = self.current_layer, self.stage, self.classes
        short = self.all_bits[stage + 1]
        codewords, agreement = None, None
        means = None if self.class_means is None else self.class_means.of(self.bits)
        if self.class_means is not None:
            self.class_means.check_seen(self.bits)
        if classes and means and layer.scorer.needs_codewords:
            codewords = classes.codebook_for(means.mean, short)
            agreement = means.agreement(codewords.to(layer.weights))
        plan = layer.plan(agreement)
        if classes and means and codewords is None:
            merged = means.mean @ plan.matrix(short).T
            codewords = classes.codebook_for(merged, short)
        self.snapshots.remember(self.bits, lambda fold: self._fold_into(fold, stage))
        if classes and codewords is not None:
            classes.set_codewords(codewords)
        self.merges.commit(plan)

    def codewords(self, bits: int | None = None) -> Tensor:
        """Codewords (C, bits) of the classes.

        Args:
            bits: one of the lengths reached so far; None for the present one.

        Raises:
            ValueError: a length without codewords, or a head without `num_classes`.
        """
        bits = self.bits if bits is None else bits
        check_reached(bits, self.all_bits[: self.stage + 1])
        if self.classes is None:
            raise ValueError("a head without num_classes has no codewords")
        return self.classes.codewords(bits)

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
        stage = self.snapshots.stage_of(bits, self.merges.look_again())
        snapshot = self.snapshots.snapshot(stage, self.stage)
        return binarize(self._code(x, stage, False) if snapshot is None else snapshot(x))

    def fold(self, bits: int | None = None) -> nn.Module:
        r"""Compose the merges so far into plain modules for serving.

        Formula:  Linear(M W, M b), then Tanh if the head has it. With a classifier, where
                  there are codewords, a `Readout` takes the place of the Linear.

        Args:
            bits: as for `codes`.

        Returns:
            A new module, equal to this head in eval mode up to rounding. Later training or
            merging of the head does not change it.

        Raises:
            ValueError: there is no code of that length.
        """
        stage = self.snapshots.stage_of(bits, self.merges.look_again())
        if bits is None:
            warn_if_unfinished(self, "folded")
        folded = self.snapshots.snapshot(stage, self.stage)
        if folded is None:
            folded = self._fold_into(self._empty_fold(self.all_bits[stage]), stage)
        return folded.as_plain_modules()

    def _empty_fold(self, bits: int) -> Folded:
        return empty_fold(self.linear, self.classes, bits, tanh=bool(self.activation))

    def _fold_into(self, folded: Folded, stage: int) -> Folded:
        merge = self.merges.merge_matrix(stage)
        return fold_into(folded, self.linear, self.norm, merge, self.classes)

    @property
    def configuration(self) -> dict[str, Any]:
        """What decides whether a state fits, besides that of the layers."""
        return {
            "in_features": self.linear.in_features,
            "bits": self.all_bits,
            "activation": self.activation,
            "batch_norm": self.norm is not None,
            "longer": self.longer,
            "num_classes": self.num_classes,
            "readout": 0.0 if self.classes is None else self.classes.strength,
            "spare_codewords": 0 if self.classes is None else self.classes.spare_codewords,
        }

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        translate(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Show what the parts do not."""
        return f"activation={self.activation!r}, constant_width={self.constant_width}"
