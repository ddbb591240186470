"""Check labels where they enter: class ids (N,) or multi-hot rows (N, C)."""

import torch
from torch import Tensor


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


def check_class_ids(labels: Tensor, num_classes: int) -> None:
    """Refuse what are no class ids.

    Args:
        labels: class ids (B,).
        num_classes: C.

    Raises:
        ValueError: ids of a real dtype; and, where they are on the CPU, ids outside of
            [0, C). On a GPU values are not read, which would stall every step.
    """
    if labels.is_floating_point():
        raise ValueError(f"class ids must be integers, got {labels.dtype}")
    readable = labels.device.type == "cpu" and not torch.compiler.is_compiling()
    if readable and len(labels) > 0:
        least, largest = (int(bound) for bound in labels.aminmax())
        if least < 0 or largest >= num_classes:
            raise ValueError(
                f"class ids must lie in [0, num_classes={num_classes}), got "
                f"{least} to {largest}"
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
    check_class_ids(labels, num_classes)
    rows = torch.zeros(len(labels), num_classes, device=labels.device)
    return rows.scatter_(1, labels.long()[:, None], 1)
