"""The way from a long code to a short one, merge by merge."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .style import COLOURS, TEXT, axes_or_new, finish, numbers


def merge_tree(merges: Sequence[Any], *, ax: Any = None) -> Any:
    """Draw which bits of the long code end in which bit of the short one.

    Each row of dots is a code; the long one stands at the top. A line leads from a bit to
    the bit that it is merged into. Its width shows the absolute weight. A dashed line means
    that the bit enters negated. Bits that are left out have no line.

    Args:
        merges: matrices (K', K), first merge first, as `NMLayer.merge_matrix()` of each
            layer in `head.layers`.
        ax: Axes to draw on; None for a new figure.

    Returns:
        the Axes.

    Raises:
        ValueError: no merge, matrices that do not fit each other, or a bit that enters two
            groups.

    Example:
        >>> from matplotlib.figure import Figure
        >>> merge = [[.5, 0., -.5, 0.], [0., 1., 0., 0.]]
        >>> ax = merge_tree([merge], ax=Figure().subplots())
        >>> len(ax.lines), ax.get_title()
        (3, 'Merges: 4 → 2 bits (dashed: negated)')
    """
    matrices = [numbers(merge, "each merge", 2) for merge in merges]
    if not matrices:
        raise ValueError("there is no merge to draw: the head has made none yet")
    for before, after in pairwise(matrices):
        if before.shape[0] != after.shape[1]:
            raise ValueError(
                f"merges do not follow each other: {before.shape[0]} bits, then "
                f"{after.shape[1]}"
            )
    if any((np.count_nonzero(matrix, axis=0) > 1).any() for matrix in matrices):
        raise ValueError("a bit enters two groups: these are no merge matrices")
    ax = axes_or_new(ax, (7.2, 4.2))
    spots = [np.arange(matrices[-1].shape[0], dtype=float)]
    for matrix in reversed(matrices):
        spots.insert(0, _above(matrix, spots[0]))
    top = len(matrices)
    for level, matrix in enumerate(matrices):
        for short, long in np.argwhere(matrix):
            weight = matrix[short, long]
            ax.plot(
                [spots[level][long], spots[level + 1][short]],
                [top - level, top - level - 1],
                color=COLOURS[0] if weight > 0 else COLOURS[1],
                linestyle="-" if weight > 0 else (0, (3, 1.5)),
                linewidth=0.6 + 2 * abs(weight),
                zorder=1,
            )
    for level, places in enumerate(spots):
        ax.scatter(places, np.full(len(places), top - level), s=16, color="black", zorder=2)
    lengths = [matrices[0].shape[1], *(matrix.shape[0] for matrix in matrices)]
    ax.set_yticks(range(top, -1, -1), [f"{length} bits" for length in lengths])
    ax.set_xticks([])
    title = f"Merges: {' → '.join(map(str, lengths))} bits (dashed: negated)"
    finish(ax, title)
    ax.tick_params(labelsize=TEXT, length=0)
    ax.spines[:].set_visible(False)
    return ax


def _above(matrix: Any, below: Any) -> Any:
    """Place the bits of a longer code so that no lines cross."""
    into = np.where(matrix.any(0), below[np.abs(matrix).argmax(0)], below.max() + 1)
    order = np.argsort(into, kind="stable")
    spots = np.empty(len(order))
    spots[order] = np.linspace(below.min() - 0.45, below.max() + 0.45, len(order))
    return spots
