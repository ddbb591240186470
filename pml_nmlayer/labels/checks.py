"""Check labels where they enter: class ids (N,) or multi-hot rows (N, C)."""

from typing import Any

import torch
from torch import Tensor

_FEW = 8  # ids that a message lists


def as_labels(labels: Any, name: str = "labels") -> Tensor:
    """Take labels as a tensor: a tensor as it is, arrays and lists of numbers likewise.

    Args:
        labels: class ids or rows; a tensor, an array or a list.
        name: how the message calls them.

    Raises:
        TypeError: strings, None, or anything else that holds no numbers.
    """
    try:
        found = labels if torch.is_tensor(labels) else torch.as_tensor(labels)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise TypeError(
            f"{name} must be numbers, class ids (N,) or rows of 0 and 1 (N, C); got "
            f"{type(labels).__name__}. For strings and other ids take "
            "pml_nmlayer.labels.LabelMap: LabelMap(all_ids)(ids)"
        ) from error
    # Hashes of 64 bits: torch compares no uint64; as int64 equal ones stay equal.
    return found.view(torch.int64) if found.dtype == torch.uint64 else found


def check_labels(
    labels: Tensor, count: int, name: str = "labels", read: bool | None = None
) -> None:
    """Refuse what is neither class ids (B,) nor rows of 0 and 1 (B, C), C >= 2.

    Args:
        labels: what a user calls labels.
        count: number of items B.
        name: how the message calls them.
        read: whether values are looked at; None where that stalls nothing, which is on
            the CPU. A GPU would have to wait: losses read their first batch there.

    Raises:
        ValueError: another shape or length, a column of ids (B, 1), values other than 0
            and 1 in rows, ids that are fractions or NaN.
        TypeError: not a tensor of real numbers.
    """
    if not torch.is_tensor(labels):
        raise TypeError(
            f"{name} must be a tensor, got {type(labels).__name__}; torch.as_tensor makes "
            "one of numbers, pml_nmlayer.labels.LabelMap of strings"
        )
    if labels.ndim not in (1, 2):
        raise ValueError(
            f"{name} must be class ids of shape (B,) or multi-hot rows of shape (B, C), "
            f"got {tuple(labels.shape)}"
        )
    if labels.is_complex():
        raise TypeError(f"{name} must be real numbers, got {labels.dtype}")
    if labels.shape[0] != count:
        raise ValueError(f"got {count} items but {len(labels)} {name}")
    if labels.ndim == 2 and labels.shape[1] < 2:
        raise ValueError(
            f"{name} of shape {tuple(labels.shape)} are a column: multi-hot rows hold 0 "
            "and 1 only and have at least two columns; class ids go in shape (B,), "
            f"{name}.squeeze(1)"
        )
    if is_readable(labels, read):
        (_check_rows if labels.ndim == 2 else _check_ids)(labels, name)


def is_readable(labels: Tensor, read: bool | None = None) -> bool:
    """Tell whether values may be looked at: on the CPU, and not while compiling.

    Args:
        labels: any.
        read: True or False to decide it.
    """
    if torch.compiler.is_compiling() or labels.device.type == "meta":
        return False
    return labels.device.type == "cpu" if read is None else read


def _check_rows(rows: Tensor, name: str) -> None:
    if bool(((rows == 0) | (rows == 1)).all()):
        return
    low, high = float(rows.min()), float(rows.max())
    cure = "columns of ids, such as fine and coarse classes: pass one, labels[:, 0]"
    if low >= 0 and high <= 1:
        cure = (
            "soft or smoothed rows: pass class ids, rows.argmax(1), or cut them, "
            "(rows > 0.5).long()"
        )
    elif low >= 0 and rows.is_floating_point() and bool((rows != rows.round()).any()):
        cure = "graded rows: pass (rows > 0).long(), or relevance= to metrics"
    raise ValueError(
        f"multi-hot {name} must hold 0 and 1 only; class ids go in shape (B,). Got values "
        f"from {low:g} to {high:g}. These look like {cure}"
    )


def _check_ids(ids: Tensor, name: str) -> None:
    if not ids.is_floating_point() or ids.numel() == 0:
        return
    if not bool((ids == ids.round()).all()) or not bool(ids.isfinite().all()):
        raise ValueError(
            f"{name} (B,) are class ids, whole numbers; got {_listed(ids)} of {ids.dtype}. "
            "Grades go to metrics as relevance="
        )
    most = {torch.float16: 2**11, torch.bfloat16: 2**8, torch.float32: 2**24}
    if bool((ids.abs() > most.get(ids.dtype, 2**53)).any()):
        raise ValueError(
            f"{name} are class ids beyond what {ids.dtype} can tell apart; keep them int64"
        )


def _listed(ids: Tensor) -> str:
    unique = ids.unique().tolist()
    shown = ", ".join(f"{each}" for each in unique[:_FEW])
    return shown + (f", ... ({len(unique)} in all)" if len(unique) > _FEW else "")


def check_label_pair(labels: Tensor, ref_labels: Tensor, read: bool | None = True) -> None:
    """Refuse two sets of labels that cannot be compared with each other.

    Args:
        labels: class ids (B,) or multi-hot rows (B, C).
        ref_labels: class ids (R,) or multi-hot rows (R, C) of the same kind.
        read: whether values are looked at, see `check_labels`.

    Raises:
        ValueError: one is 1-D and the other 2-D, other numbers of classes, or as
            `check_labels`.
    """
    if labels.ndim != ref_labels.ndim or labels.shape[1:] != ref_labels.shape[1:]:
        raise ValueError(
            "both sets of labels must be of one kind, (B,) and (R,) or (B, C) and "
            f"(R, C); got {tuple(labels.shape)} and {tuple(ref_labels.shape)}"
        )
    check_labels(labels, len(labels), read=read)
    if ref_labels is not labels:
        check_labels(ref_labels, len(ref_labels), "ref_labels", read)


def check_class_ids(labels: Tensor, num_classes: int, read: bool | None = None) -> None:
    """Refuse what are no class ids from 0 to C - 1.

    Args:
        labels: class ids (B,).
        num_classes: C.
        read: whether values are looked at; None on the CPU only, see `check_labels`.

    Raises:
        ValueError: ids of a real dtype; and, where values are read, ids outside of [0, C).
            The message lists them and names `LabelMap`.
    """
    if labels.is_floating_point():
        raise ValueError(f"class ids must be integers, got {labels.dtype}: pass ids.long()")
    if not is_readable(labels, read) or len(labels) == 0:
        return
    ids = labels.long()  # torch compares no unsigned integers of 16 bits or more
    least, largest = (int(bound) for bound in ids.aminmax())
    if least < 0 or largest >= num_classes:
        raise ValueError(
            f"class ids must lie in [0, num_classes={num_classes}), got {least} to "
            f"{largest}, namely {_listed(ids)}; map yours with "
            "pml_nmlayer.labels.LabelMap(all_ids)"
        )


def class_rows(labels: Tensor, num_classes: int, read: bool | None = None) -> Tensor:
    r"""Write the classes of each item as a row of 0 and 1.

    Args:
        labels: class ids (B,) from 0 to C - 1, or multi-hot rows (B, C).
        num_classes: C.
        read: whether values are looked at; None on the CPU only. On a GPU that would
            stall every step: there a wrong id trips the assertion of the index kernel.

    Shapes:   (B,) or (B, C) -> (B, C) float32.
    Returns:  multi-hot rows.
    Raises:   ValueError: multi-hot rows of another width than C, ids of a real dtype.
              Where values are read: ids outside of [0, C), or rows with other values
              than 0 and 1. The message lists the ids, and names `LabelMap`.
    Source:   convention of this package.  Differs: no.

    Example:
        >>> class_rows(torch.tensor([1, 0]), 3)
        tensor([[0., 1., 0.],
                [1., 0., 0.]])
    """
    if labels.ndim == 2:
        if labels.shape[1] != num_classes:
            raise ValueError(
                f"multi-hot labels must have num_classes={num_classes} columns, "
                f"got {labels.shape[1]}"
            )
        if is_readable(labels, read):
            _check_rows(labels, "labels")
        return labels.float()
    check_class_ids(labels, num_classes, read)
    rows = torch.zeros(len(labels), num_classes, device=labels.device)
    return rows.scatter_(1, labels.long()[:, None], 1)
