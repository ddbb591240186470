"""What all pictures share: an Axes, colours for every eye, one size of text."""

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

# Okabe and Ito's colours that differ in grey, too; markers and dashes differ beside them
COLOURS = ("#0072B2", "#D55E00", "#000000", "#56B4E9", "#CC79A7", "#009E73")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)))
TEXT = 12  # points; legible when the picture is shown at half its width


def axes_or_new(ax: Any, size: tuple[float, float] = (6.4, 4.4)) -> Any:
    """Take the Axes that came, or make one.

    Args:
        ax: a matplotlib Axes, or None.
        size: width and height of a new figure, in inches.

    Returns:
        the Axes.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: something else than an Axes.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib: pip install pml-nmlayer[plots]"
        ) from error
    if ax is None:
        return pyplot.subplots(figsize=size, layout="constrained")[1]
    if not hasattr(ax, "set_title"):
        raise TypeError(
            f"ax must be one matplotlib Axes, got {type(ax).__name__}; of several, pass one"
        )
    return ax


def finish(ax: Any, title: str, x: str = "", y: str = "") -> Any:
    """Write title and labels in one size, and leave out the upper and right spine.

    Args:
        ax: a matplotlib Axes.
        title: what was measured.
        x: label of the horizontal axis.
        y: label of the vertical axis.

    Returns:
        the Axes.
    """
    ax.set_title(title, fontsize=TEXT)
    ax.set_xlabel(x, fontsize=TEXT)
    ax.set_ylabel(y, fontsize=TEXT)
    ax.tick_params(labelsize=TEXT - 1)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def look(place: int) -> dict[str, Any]:
    """Choose colour, marker and dashes of the line at a place.

    Args:
        place: from 0; looks repeat after six.
    """
    kind = place % len(COLOURS)
    return {"color": COLOURS[kind], "marker": MARKERS[kind], "linestyle": DASHES[kind]}


def numbers(values: Any, name: str, ndim: int) -> npt.NDArray[np.float64]:
    """Check an array of finite numbers.

    Args:
        values: tensor, array or sequence.
        name: for the error.
        ndim: number of dimensions wanted.

    Returns:
        float64.

    Raises:
        ValueError: another number of dimensions, nothing in it, NaN or inf.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name} must have {ndim} dimension(s), got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    return array
