"""How relevant two items are to each other, by their labels."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..runtime.options import check_count
from .checks import check_label_pair

Relevance = Callable[[Tensor, Tensor], Tensor]
"""Labels of Q and of N items -> (Q, N) grades, integers >= 0; 0 is not relevant."""


def shared_label_count(labels: Tensor, ref_labels: Tensor | None = None) -> Tensor:
    r"""Count the labels that two items share.

    Formula:  g_ij = sum over c of y_ic y_jc;  [y_i = y_j] for class ids.

    Args:
        labels: class ids (B,) or multi-hot rows (B, C).
        ref_labels: the other side, of the same kind; `labels` themselves if None.

    Shapes:   (B,) or (B, C), (R,) or (R, C) -> (B, R) float32 (exact: small integers).
    Returns:  number of shared labels, the relevance grade of NDCG.
    Raises:   ValueError: other kinds of labels on the two sides (see `check_labels`).
    Source:   common practice on NUS-WIDE and MS-COCO.  Differs: no.
    """
    ref_labels = labels if ref_labels is None else ref_labels
    check_label_pair(labels, ref_labels, read=None)
    if labels.ndim == 1:
        return (labels[:, None] == ref_labels[None, :]).float()
    return labels.float() @ ref_labels.float().T


def shared_label(labels: Tensor, ref_labels: Tensor | None = None) -> Tensor:
    r"""Tell which pairs of items are similar.

    Formula:  s_ij = [sum over c of y_ic y_jc >= 1];  [y_i = y_j] for class ids.

    Args:
        labels: class ids (B,) or multi-hot rows (B, C).
        ref_labels: the other side, of the same kind; `labels` themselves if None.

    Shapes:   (B,) or (B, C), (R,) or (R, C) -> (B, R) bool.
    Returns:  True where at least one label is shared. An item without any label is
              similar to none, itself included.
    Raises:   ValueError: other kinds of labels on the two sides.
    Source:   Xia et al., AAAI 2014, and later hashing papers.  Differs: no.

    Example:
        >>> import torch
        >>> shared_label(torch.tensor([0, 1]), torch.tensor([1, 1, 0]))
        tensor([[False, False,  True],
                [ True,  True, False]])
    """
    ref_labels = labels if ref_labels is None else ref_labels
    if labels.ndim == 1 and ref_labels.ndim == 1:
        check_label_pair(labels, ref_labels, read=None)
        return labels[:, None] == ref_labels[None, :]
    return shared_label_count(labels, ref_labels) > 0


def jaccard(labels: Tensor, ref_labels: Tensor | None = None) -> Tensor:
    r"""Grade the similarity of label sets between 0 and 1.

    Formula:  J_ij = |Y_i ∩ Y_j| / |Y_i ∪ Y_j|, and 0 where both sets are empty.

    Args:
        labels: class ids (B,) or multi-hot rows (B, C).
        ref_labels: the other side, of the same kind; `labels` themselves if None.

    Shapes:   (B,) or (B, C), (R,) or (R, C) -> (B, R) float32.
    Returns:  1 for equal sets, 0 for disjoint ones; for class ids the same as equality.
    Raises:   ValueError: other kinds of labels on the two sides.
    Source:   Jaccard 1901.  Differs: no.
    """
    ref_labels = labels if ref_labels is None else ref_labels
    shared = shared_label_count(labels, ref_labels)
    if labels.ndim == 1:
        return shared
    sizes = labels.float().sum(1)[:, None] + ref_labels.float().sum(1)[None, :]
    return shared / (sizes - shared).clamp(min=1)


def relevance_grades(
    relevance: Relevance, labels: Tensor, ref_labels: Tensor, grades: int | None = None
) -> Tensor:
    r"""Grade pairs by a user's function, and refuse what is no grade.

    Args:
        relevance: labels of Q and of N items -> (Q, N) integers >= 0.
        labels: first argument of `relevance`.
        ref_labels: second argument.
        grades: G, one more than the largest grade; None to cut grades at 1.

    Shapes:   labels (Q, ...), ref_labels (N, ...) -> (Q, N) int64.
    Returns:  grades in 0..G - 1, or 0 and 1 where `grades` is None.
    Raises:   ValueError: another shape, a fraction, a negative or too large a grade.

    Example:
        >>> y = torch.tensor([[2, 0, 1]])  # how much of each topic an item has
        >>> relevance_grades(lambda a, b: a @ b.T, y, torch.tensor([[1, 0, 2]]), grades=5)
        tensor([[4]])
    """
    check_count("grades", grades, least=2, none="grades cut at 1")
    graded = torch.as_tensor(relevance(labels, ref_labels)).to(labels.device)
    if graded.shape != (len(labels), len(ref_labels)):
        raise ValueError(
            f"relevance must return shape {(len(labels), len(ref_labels))} for these "
            f"labels, got {tuple(graded.shape)}"
        )
    whole = graded.long()
    top = torch.inf if grades is None else grades - 1
    if not bool(((whole == graded) & (whole >= 0) & (whole <= top)).all()):
        raise ValueError(
            f"relevance must return integers in 0..{top}; round fractions to grades, and "
            "pass grades=, one more than the largest"
        )
    return whole.clamp(max=1) if grades is None else whole
