"""Notice class ids that are one column of multi-hot rows."""

import warnings

import torch
from torch import Tensor

CURE = (
    "PML's trainers and testers take column 0 of two-dimensional labels. For multi-hot "
    "labels build them with pml_nmlayer.multilabel.multilabel(Trainer); if one column is "
    "what you want, give the data set labels of shape (N,), labels[:, i].contiguous()"
)


def width_of_rows(labels: Tensor | None) -> int | None:
    r"""Tell of which width the rows of 0 and 1 are that class ids were cut from.

    A column of a matrix keeps the matrix' stride, so that its rows are still there.

    Args:
        labels: class ids (N,), as they came: a copy has no stride to tell from.

    Returns:
        C, where labels are a column of N rows of C >= 2 numbers, all of them 0 or 1, of
        which another column is in use, too. None otherwise, and on a GPU.
    """
    if not torch.is_tensor(labels) or torch.compiler.is_compiling():
        return None
    if labels.ndim != 1 or len(labels) < 2 or labels.device.type != "cpu":
        return None
    width, base = labels.stride(0), labels._base
    if width < 2 or (base is not None and (base.ndim != 2 or base.shape[1] != width)):
        return None
    # Of an array only what lies between first and last item of the column is certain.
    rows = labels.as_strided((len(labels) - 1, width), (width, 1))
    if not bool(((rows == 0) | (rows == 1)).all()) or not bool(rows[:, 1:].any()):
        return None
    return width


def check_not_a_column(labels: Tensor | None, num_classes: int | None = None) -> bool:
    """Warn of class ids that are one column of multi-hot rows; refuse where it is certain.

    Args:
        labels: class ids (N,), as they came.
        num_classes: C of the part that takes them. Rows of that width are its labels, so
            that one column of them is certainly a mistake.

    Returns:
        Whether there was a warning, so that a caller warns once.

    Raises:
        ValueError: a column of rows of width `num_classes`.
    """
    width = width_of_rows(labels)
    if width is None:
        return False
    what = f"labels are one column of {width}, all of 0 and 1. {CURE}"
    if num_classes == width > 2:
        raise ValueError(f"{what}. Here num_classes={num_classes}, so whole rows are meant")
    warnings.warn(what, UserWarning, stacklevel=3)
    return True
