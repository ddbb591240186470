"""What every hashing loss shares: both kinds of labels, pairs, and paper-exact means."""

from typing import Any

import torch
from pytorch_metric_learning.losses import BaseMetricLossFunction
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu
from torch import Tensor

from ..labels.checks import check_labels
from ..labels.columns import check_not_a_column
from ..labels.relevance import shared_label
from ..runtime.options import check_number

LossDict = dict[str, dict[str, Any]]


class BaseHashingLoss(BaseMetricLossFunction):
    r"""A PML loss function that takes class ids or multi-hot labels.

    Subclasses implement PML's `compute_loss`. It is called with autocast off and with
    embeddings of at least float32, so that no loss has to think about mixed precision.
    An empty batch is answered here: the loss is exactly 0 and carries a gradient.

    Shapes:   embeddings (B, K) real, before sign; labels (B,) or (B, C).
    Returns:  a scalar, after PML's reducer and embedding regularizer.
    Raises:   ValueError: embeddings not (B, K), labels of another length or shape, rows
              that are not 0 and 1. TypeError: embeddings that are no real numbers. Values
              of labels on a GPU are read in the first batch alone, which is once.
    Warns:    UserWarning, once: class ids that are a column of multi-hot rows.
    Source:   pytorch-metric-learning, BaseMetricLossFunction.forward.
              Differs: multi-hot labels are let through; mixed precision is settled here.
    """

    num_classes: int | None = None  # of losses that know their classes
    _has_read_labels = False
    _has_warned = False

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss of one batch; arguments as in every PML loss."""
        self.reset_stats()
        read = None if self._has_read_labels else True
        if not self._has_warned:
            self._has_warned = check_not_a_column(labels, self.num_classes)
        embeddings, labels = _check_batch(embeddings, labels, "embeddings", "labels", read)
        if ref_emb is None:
            # PML's convention, which losses rely on: the very same objects mean "no
            # reference set", so that an item is not paired with itself.
            ref_emb, ref_labels = embeddings, labels
        else:
            ref_emb, ref_labels = _check_batch(
                ref_emb, ref_labels, "ref_emb", "ref_labels", read
            )
            _check_widths(embeddings, ref_emb)
        with torch.autocast(embeddings.device.type, enabled=False):
            if len(embeddings) == 0:
                loss_dict = self.zero_losses()
            else:
                loss_dict = self.compute_loss(
                    embeddings, labels, indices_tuple, ref_emb, ref_labels
                )
                self.add_embedding_regularization_to_loss_dict(loss_dict, embeddings)
                self._has_read_labels |= labels is not None
            return self.reducer(loss_dict, embeddings, labels)


def _check_widths(embeddings: Tensor, ref_emb: Tensor) -> None:
    if embeddings.shape[1] != ref_emb.shape[1]:
        raise ValueError(
            f"embeddings have {embeddings.shape[1]} columns and ref_emb {ref_emb.shape[1]}"
        )


def _check_batch(
    embeddings: Tensor,
    labels: Tensor | None,
    emb_name: str,
    label_name: str,
    read: bool | None,
) -> tuple[Tensor, Tensor | None]:
    if not torch.is_tensor(embeddings) or not embeddings.is_floating_point():
        raise TypeError(
            f"{emb_name} must be real outputs before sign, a tensor of floats, got "
            f"{getattr(embeddings, 'dtype', type(embeddings).__name__)}"
        )
    if embeddings.ndim != 2:
        raise ValueError(
            f"{emb_name} must have shape (B, K), got {tuple(embeddings.shape)}"
        )
    if embeddings.dtype in (torch.float16, torch.bfloat16):
        embeddings = embeddings.float()
    if labels is not None:
        check_labels(labels, len(embeddings), label_name, read)
        labels = c_f.to_device(labels, embeddings)
    return embeddings, labels


def pair_masks(
    embeddings: Tensor,
    labels: Tensor | None,
    indices_tuple: tuple[Tensor, ...] | None,
    ref_emb: Tensor,
    ref_labels: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Tell which pairs a pairwise loss is about.

    Args:
        embeddings: (B, K).
        labels: class ids (B,) or multi-hot rows (B, C); may be None with a tuple.
        indices_tuple: a miner's pairs or triplets, or None for all pairs.
        ref_emb: (R, K); the object `embeddings` itself where there is no reference set.
        ref_labels: labels of `ref_emb`.

    Returns:
        (similar, dissimilar): two (B, R) masks of 0 and 1 in the dtype of `embeddings`.
        An item is never paired with itself.

    Raises:
        ValueError: neither labels nor indices_tuple.
    """
    c_f.labels_or_indices_tuple_required(labels, indices_tuple)
    if indices_tuple is None:
        assert labels is not None
        similar = shared_label(labels, ref_labels).to(embeddings.dtype)
        dissimilar = 1 - similar
        if ref_emb is embeddings:
            other = 1 - torch.eye(len(embeddings), device=embeddings.device)
            similar, dissimilar = similar * other, dissimilar * other
        return similar, dissimilar
    anchor1, positive, anchor2, negative = lmu.convert_to_pairs(
        indices_tuple, labels, ref_labels
    )
    similar = embeddings.new_zeros(len(embeddings), len(ref_emb))
    dissimilar = torch.zeros_like(similar)
    similar[anchor1, positive] = 1
    dissimilar[anchor2, negative] = 1
    return similar, dissimilar


def pair_weights(similar: Tensor, dissimilar: Tensor, balanced: bool) -> Tensor:
    r"""Weights that turn a sum over pairs into a mean.

    Formula:  plain: w_ij = 1 / P over the P valid pairs.
              balanced: w_ij = 1 / (2 P+) for similar and 1 / (2 P-) for dissimilar pairs.

    Args:
        similar: (B, R) mask.
        dissimilar: (B, R) mask.
        balanced: weigh the two kinds of pairs equally.

    Returns:  (B, R), 0 outside the masks; all 0 without any valid pair, which makes a loss
              0. With one kind of pairs only, balanced weights sum to one half.
    Source:   this package.  Differs: HashNet weighs by S / S1 and S / S0, twice as much.
    """
    if balanced:
        return 0.5 * (
            similar / similar.sum().clamp(min=1)
            + dissimilar / dissimilar.sum().clamp(min=1)
        )
    valid = similar + dissimilar
    return valid / valid.sum().clamp(min=1)


def per_anchor(values: Tensor) -> dict[str, Any]:
    """Emit one loss value an anchor, in the form PML's reducers take.

    PML reduces `pos_pair` and `neg_pair` losses one by one and adds the means, which
    re-weights a paper's mean over all pairs. A value an anchor, (B,), leaves the mean
    as it is, keeps a fixed shape, and lets ClassWeightedReducer find the labels.

    Args:
        values: (B,), their mean is the loss.
    """
    rows = torch.arange(len(values), device=values.device)
    return {"losses": values, "indices": rows, "reduction_type": "element"}


def weighted_pairs(losses: Tensor, weights: Tensor) -> dict[str, Any]:
    r"""Emit sum over pairs of w_ij l_ij as one value an anchor (see `per_anchor`).

    Formula:  value_i = B sum over j of w_ij l_ij, so that mean_i value_i is the sum.

    Args:
        losses: (B, R) loss of each pair.
        weights: (B, R) from `pair_weights`.

    Source:   this package.  Differs: PML emits a value a pair, and reduces by kind.
    """
    return per_anchor(len(losses) * (weights * losses).sum(1))


def check_preset(preset: str | None) -> None:
    """Refuse a misspelt preset.

    Args:
        preset: None or "paper".

    Raises:
        ValueError: anything else.
    """
    if preset not in (None, "paper"):
        raise ValueError(f"preset must be None or 'paper', got {preset!r}")


def check_grading(similarity: str) -> None:
    """Refuse a misspelt way to grade pairs.

    Args:
        similarity: "shared" or "jaccard".

    Raises:
        ValueError: anything else.
    """
    if similarity not in ("shared", "jaccard"):
        raise ValueError(f"similarity must be 'shared' or 'jaccard', got {similarity!r}")


def check_not_negative(**weights: float) -> None:
    """Refuse negative weights.

    Args:
        weights: by name.

    Raises:
        ValueError: one is below 0, NaN or infinite; the message names it.
        TypeError: one is no number.
    """
    for name, value in weights.items():
        check_number(name, value, least=0)


def check_takes_similarity(loss: BaseMetricLossFunction) -> None:
    """Refuse a distance where a loss needs a similarity.

    Args:
        loss: with its distance.

    Raises:
        ValueError: small values of `loss.distance` mean close.
    """
    if not loss.distance.is_inverted:
        raise ValueError(
            f"{type(loss).__name__} needs a similarity such as DotProductSimilarity("
            f"normalize_embeddings=False), got {type(loss.distance).__name__}"
        )
