"""From labels to relevance: who counts as similar to whom, and how much.

Labels are integer class ids (B,) or multi-hot rows (B, C) of 0 and 1 everywhere in this
package. Two items are similar when they share at least one label. Any other grading, of
any other labels, is a function of two blocks of labels (`Relevance`).
"""

from collections.abc import Callable

import torch
from torch import Tensor

Relevance = Callable[[Tensor, Tensor], Tensor]
"""Labels of Q and of N items -> (Q, N) grades, integers >= 0; 0 is not relevant."""


def check_labels(labels: Tensor, count: int, name: str = "labels") -> None:
    """Refuse labels that do not belong to `count` items (shape only: no device sync).

    Args:
        labels: class ids (B,) or multi-hot rows (B, C).
        count: number of items B.
        name: how the message calls them.

    Raises:
        ValueError: not 1-D or 2-D, or of another length than `count`.
    """
    if labels.ndim not in (1, 2):
        raise ValueError(
            f"{name} must be class ids of shape (B,) or multi-hot rows of shape (B, C), "
            f"got {tuple(labels.shape)}"
        )
    if labels.shape[0] != count:
        raise ValueError(f"got {count} items but {len(labels)} {name}")


def check_label_pair(labels: Tensor, ref_labels: Tensor) -> None:
    """Refuse two sets of labels that cannot be compared with each other.

    Args:
        labels: class ids (B,) or multi-hot rows (B, C).
        ref_labels: class ids (R,) or multi-hot rows (R, C) of the same kind.

    Raises:
        ValueError: one is 1-D and the other 2-D, other numbers of classes, or multi-hot
            rows with other values than 0 and 1.
    """
    if labels.ndim != ref_labels.ndim or labels.shape[1:] != ref_labels.shape[1:]:
        raise ValueError(
            "both sets of labels must be of one kind, (B,) and (R,) or (B, C) and "
            f"(R, C); got {tuple(labels.shape)} and {tuple(ref_labels.shape)}"
        )
    for rows in (labels, ref_labels):
        if rows.ndim == 2 and not bool(((rows == 0) | (rows == 1)).all()):
            raise ValueError(
                "multi-hot labels must hold 0 and 1 only; class ids go in shape (B,)"
            )


def class_rows(labels: Tensor, num_classes: int) -> Tensor:
    r"""Write the classes of each item as a row of 0 and 1.

    Args:
        labels: class ids (B,) from 0 to C - 1, or multi-hot rows (B, C).
        num_classes: C.

    Shapes:   (B,) or (B, C) -> (B, C) float32.
    Returns:  multi-hot rows.
    Raises:   ValueError: multi-hot rows of another width than C, ids of a real dtype; and,
              where labels are on the CPU, ids outside of [0, C) or rows with other values
              than 0 and 1. On a GPU values are not read, which would stall every step:
              there a wrong id trips the assertion of the index kernel.
    Source:   convention of this package.  Differs: no.

    Example:
        >>> class_rows(torch.tensor([1, 0]), 3)
        tensor([[0., 1., 0.],
                [1., 0., 0.]])
    """
    readable = labels.device.type == "cpu" and not torch.compiler.is_compiling()
    if labels.ndim == 2:
        if labels.shape[1] != num_classes:
            raise ValueError(
                f"multi-hot labels must have num_classes={num_classes} columns, "
                f"got {labels.shape[1]}"
            )
        if readable and not bool(((labels == 0) | (labels == 1)).all()):
            raise ValueError("multi-hot labels must hold 0 and 1 only")
        return labels.float()
    if labels.is_floating_point():
        raise ValueError(f"class ids must be integers, got {labels.dtype}")
    if readable and not bool(((labels >= 0) & (labels < num_classes)).all()):
        raise ValueError(
            f"class ids must lie in [0, num_classes={num_classes}), got "
            f"{int(labels.min())} to {int(labels.max())}"
        )
    rows = torch.zeros(len(labels), num_classes, device=labels.device)
    return rows.scatter_(1, labels.long()[:, None], 1)


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
    if labels.ndim == 1 and ref_labels.ndim == 1:
        return (labels[:, None] == ref_labels[None, :]).float()
    if labels.ndim == ref_labels.ndim == 2:
        return labels.float() @ ref_labels.float().T
    raise ValueError(
        "both sets of labels must be of one kind, (B,) or (B, C); got shapes "
        f"{tuple(labels.shape)} and {tuple(ref_labels.shape)}"
    )


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
