"""Which bits are redundant, and in which groups they are merged."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .style import COLOURS, axes_or_new, finish, numbers


def redundancy_graph(
    correlation: Any, groups: Any, *, threshold: float | None = None, ax: Any = None
) -> Any:
    """Draw the bits of a code by groups, with lines where they are correlated.

    Each circle of dots is a group that becomes one bit. Lines inside of a group are blue,
    those between groups are grey. Negative correlations are dashed.

    Args:
        correlation: (K, K), as `NMLayer.graph.correlation()`.
        groups: (K,) whole numbers from 0, as `NMLayer.groups`.
        threshold: smallest absolute correlation that gets a line, from 0 to 1; None for
            the value that the strongest K pairs reach.
        ax: Axes to draw on; None for a new figure.

    Returns:
        the Axes.

    Raises:
        ValueError: shapes that do not fit, groups that are no whole numbers, or a threshold
            out of range.

    Example:
        >>> from matplotlib.figure import Figure
        >>> rho = [[0., .9, .1], [.9, 0., 0.], [.1, 0., 0.]]
        >>> ax = redundancy_graph(rho, [0, 0, 1], threshold=.5, ax=Figure().subplots())
        >>> len(ax.lines), ax.get_title().splitlines()[0]
        (1, 'Redundancy of 3 bits in 2 groups')
    """
    rho = numbers(correlation, "correlation", 2)
    place = numbers(groups, "groups", 1)
    if rho.shape != (len(place), len(place)):
        raise ValueError(
            f"correlation must have shape ({len(place)}, {len(place)}) for {len(place)} "
            f"groups, got {rho.shape}"
        )
    if (place != place.round()).any() or place.min() < 0:
        raise ValueError("groups must be whole numbers from 0, as NMLayer.groups has them")
    upper = np.triu_indices(len(rho), 1)
    strength = np.abs(rho[upper])
    if threshold is None:
        strongest = np.sort(strength)[::-1]
        threshold = (
            float(strongest[min(len(rho), len(strongest)) - 1]) if len(rho) > 1 else 1
        )
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie between 0 and 1, got {threshold}")
    ax = axes_or_new(ax, (6.4, 5.6))
    spots = _spots(place.astype(int))
    for i, j, size in zip(*upper, strength, strict=True):
        if size < threshold or size == 0:
            continue
        inside = place[i] == place[j]
        ax.plot(
            *spots[[i, j]].T,
            color=COLOURS[0] if inside else "0.8",
            linewidth=0.7 + (2.5 if inside else 0.4) * size,
            linestyle="-" if rho[i, j] > 0 else (0, (3, 1.5)),
            zorder=2 if inside else 1,
        )
    ax.scatter(*spots.T, s=34, color="black", zorder=3)
    ax.set_aspect("equal")
    ax.set_axis_off()
    count = len(np.unique(place))
    title = (
        f"Redundancy of {len(rho)} bits in {count} groups\n"
        f"lines: |correlation| ≥ {threshold:.2f}, dashed if negative"
    )
    return finish(ax, title)


def _spots(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Lay the groups out on a grid, and the bits of each on a circle."""
    spots = np.zeros((len(groups), 2))
    names = np.unique(groups)
    columns = int(np.ceil(np.sqrt(len(names))))
    for at, name in enumerate(names):
        members = np.flatnonzero(groups == name)
        turn = 2 * np.pi * np.arange(len(members)) / len(members) + np.pi / 8
        radius = 0 if len(members) == 1 else 0.32
        centre = np.array([at % columns, -(at // columns)])
        spots[members] = centre + radius * np.stack([np.cos(turn), np.sin(turn)], 1)
    return spots
