"""Drawings of a report. What is drawn, and what is said about it, `pictures` decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from ..results import write_file
from ..suites import Row
from .standing import is_code

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_MARKERS = "osD^"
GREY = "0.75"
PANEL = 3.4  # inches


@dataclass(frozen=True)
class Look:
    """How a row is drawn in all figures of a page; no label: one of the grey ones."""

    color: str
    marker: str = "o"
    style: str = "-"
    label: str | None = None


Looks = dict[str, Look]  # by name of the row


@dataclass(frozen=True)
class Points:
    """Values of one row: of every run, and their means, as (x, y)."""

    runs: Sequence[tuple[float, float]]
    means: Sequence[tuple[float, float]]


def looks(rows: Sequence[Row], coloured: Sequence[Row]) -> Looks:
    """Give each row its look; lines of embeddings are dashed."""
    found: Looks = {}
    for row in rows:
        style = "-" if is_code(row) else "--"
        if row not in coloured:
            found[row.name] = Look(GREY, style=style)
            continue
        turn, color = divmod(coloured.index(row), 10)
        marker = _MARKERS[turn % len(_MARKERS)]
        found[row.name] = Look(f"C{color}", marker, style, row.label)
    return found


def panels(count: int, width: float = PANEL) -> tuple[Figure, list]:
    """Make a figure of panels side by side, with room for a legend at its right."""
    figure = Figure(figsize=(width * count + 2, 3.6), layout="constrained")
    return figure, list(figure.subplots(1, count, sharey=True, squeeze=False)[0])


def lines(axes: "Axes", data: Mapping[str, Points], look: Looks) -> None:
    """Draw means as lines, and every run faint; grey ones below the others."""
    for name, points in data.items():
        own = look[name]
        order = 2 if own.label else 1
        if own.label and points.runs:
            x, y = zip(*points.runs, strict=True)
            axes.scatter(x, y, color=own.color, alpha=0.3, s=12, linewidths=0)
        x, y = zip(*points.means, strict=True) if points.means else ((), ())
        axes.plot(
            x,
            y,
            color=own.color,
            marker=own.marker if own.label else "",
            markersize=4,
            linewidth=1.4 if own.label else 0.8,
            linestyle=own.style,
            label=own.label or "_grey",
            zorder=order,
        )


def dots(axes: "Axes", data: Mapping[str, tuple[float, float]], look: Looks) -> None:
    """Draw one point a row, grey ones below the others."""
    grey = [point for name, point in data.items() if not look[name].label]
    x_grey, y_grey = np.array(grey).reshape(-1, 2).T
    axes.scatter(x_grey, y_grey, color=GREY, s=14, zorder=1)
    for name, (x, y) in data.items():
        own = look[name]
        if own.label:
            axes.scatter([x], [y], color=own.color, marker=own.marker, label=own.label)


def log_scale(axes: "Axes") -> None:
    """Scale x by its logarithm, with a few plain numbers even within one decade."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def legend(figure: Figure, below: int = 0) -> None:
    """Name the coloured rows once for all panels; nothing before the first result.

    Args:
        figure: with its panels drawn.
        below: columns of a legend below the panels; 0 puts it at their right.
    """
    named: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    if named:
        figure.legend(
            list(named.values()),
            list(named),
            loc="outside lower center" if below else "outside right upper",
            ncols=max(below, 1),
            fontsize=8,
        )


def bars(axes: "Axes", values: np.ndarray, title: str) -> None:
    """Draw one bar a bit, the largest first."""
    ordered = np.sort(values)[::-1]
    axes.bar(np.arange(1, len(ordered) + 1), ordered, width=0.8)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("bits, most important first")


def heat_map(
    figure: Figure, axes: "Axes", correlation: np.ndarray, groups: np.ndarray
) -> None:
    """Draw |correlation| of bits in the order of their groups, with a frame a group.

    Args:
        figure: holds the axes, and gets the scale.
        axes: to draw in.
        correlation: (K, K).
        groups: (K,) the number of each bit's group.
    """
    order = np.argsort(groups, kind="stable")
    shown = axes.imshow(
        np.abs(correlation)[np.ix_(order, order)],
        cmap="viridis",
        vmin=0,
        vmax=1,
        interpolation="none",
    )
    start = 0
    for size in np.unique(groups, return_counts=True)[1]:
        corner = (start - 0.5, start - 0.5)
        axes.add_patch(Rectangle(corner, size, size, fill=False, edgecolor="white"))
        start += int(size)
    axes.set_xlabel("bits, in the order of their groups")
    figure.colorbar(shown, ax=axes, label="|correlation|")


def ratio_bars(axes: "Axes", names: Sequence[str], quartiles: np.ndarray) -> None:
    """Draw ratios of times: a bar to the median, a line from quartile to quartile.

    Args:
        axes: to draw in.
        names: N of them, the first one on top.
        quartiles: (N, 3) first quartile, median, third quartile.
    """
    low, median, high = quartiles.T
    places = np.arange(len(names))
    axes.barh(places, median - 1, left=1, color=["C0" if m <= 1 else "C1" for m in median])
    axes.errorbar(
        median, places, xerr=(median - low, high - median), fmt="none", ecolor="0.2"
    )
    axes.axvline(1, color="0.3", linewidth=0.8)
    log_scale(axes)
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("time / time of the peer (below 1 is faster)")


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure for places that show no HTML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, lambda f: figure.savefig(f, dpi=150, format="png"))
