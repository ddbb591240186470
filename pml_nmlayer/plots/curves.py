"""Lines that compare codes: mAP against bits, precision against recall."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .style import TEXT, axes_or_new, finish, look, numbers


def map_against_bits(
    values: Mapping[str, Mapping[int, Any]], *, metric: str = "mAP@all", ax: Any = None
) -> Any:
    """Draw a metric against the code length, one line a method.

    Args:
        values: name of a method -> {bits: value, or values of several seeds}.
        metric: what the values are, for the axis.
        ax: Axes to draw on; None for a new figure.

    Returns:
        the Axes. Lines join means; bars show one standard deviation over seeds, where there
        are two seeds or more.

    Raises:
        ValueError: no method, no length, a length below 1, or values that are not finite.

    Example:
        >>> from matplotlib.figure import Figure
        >>> runs = {"merged": {12: [.5, .7], 24: [.8, .8]}, "ITQ": {12: .3, 24: .4}}
        >>> ax = map_against_bits(runs, ax=Figure().subplots())
        >>> [float(y) for y in ax.containers[0].lines[0].get_ydata()]
        [0.6, 0.8]
    """
    if not values or not all(values.values()):
        raise ValueError("each method needs a value at one length at least")
    if min(min(at) for at in values.values()) < 1:
        raise ValueError("code lengths are at least 1 bit")
    ax = axes_or_new(ax)
    for place, (name, at) in enumerate(values.items()):
        runs = {
            bits: numbers(np.atleast_1d(at[bits]), f"values[{name!r}][{bits}]", 1)
            for bits in sorted(at)
        }
        spread = [run.std(ddof=1) if len(run) > 1 else 0.0 for run in runs.values()]
        ax.errorbar(
            list(runs),
            [float(run.mean()) for run in runs.values()],
            spread if any(spread) else None,
            label=name,
            linewidth=2,
            markersize=6,
            capsize=3,
            **look(place),
        )
    ax.set_xscale("log", base=2)
    lengths = sorted({bits for at in values.values() for bits in at})
    ax.set_xticks(lengths, [str(bits) for bits in lengths])
    ax.minorticks_off()
    ax.legend(fontsize=TEXT - 1, frameon=False)
    seeds = max(np.size(value) for at in values.values() for value in at.values())
    spread_note = f", mean ± sd over {seeds} seeds" if seeds > 1 else ""
    return finish(ax, f"{metric} against code length{spread_note}", "bits", metric)


def precision_recall(curves: Mapping[str, tuple[Any, Any]], *, ax: Any = None) -> Any:
    """Draw precision against recall, one point a Hamming radius.

    Args:
        curves: name of a method -> (precision, recall), each (K + 1,), as
            `pml_nmlayer.ranking.precision_recall_curve` returns them. Radii at which
            precision is NaN, since no ball holds an item, are left out.
        ax: Axes to draw on; None for a new figure.

    Returns:
        the Axes.

    Raises:
        ValueError: no curve, precision and recall of different lengths, or values that do
            not lie between 0 and 1.

    Example:
        >>> from matplotlib.figure import Figure
        >>> curve = {"merged": ([1., .8, .5], [.2, .6, 1.])}
        >>> ax = precision_recall(curve, ax=Figure().subplots())
        >>> ax.get_xlabel(), len(ax.lines[0].get_xdata())
        ('recall', 3)
    """
    if not curves:
        raise ValueError("there is no curve to draw: curves is empty")
    ax = axes_or_new(ax)
    for place, (name, (precision, recall)) in enumerate(curves.items()):
        recalls = numbers(recall, f"recall of {name!r}", 1)
        raw = np.asarray(precision, dtype=np.float64)
        if raw.shape != recalls.shape:
            raise ValueError(
                f"precision and recall of {name!r} must have one length, got {raw.shape} "
                f"and {recalls.shape}"
            )
        known = ~np.isnan(raw)
        both = numbers(np.stack([recalls[known], raw[known]]), f"curve of {name!r}", 2)
        if both.min() < 0 or both.max() > 1:
            raise ValueError(f"precision and recall of {name!r} must lie between 0 and 1")
        kind = look(place)
        every = max(1, both.shape[1] // 12)
        ax.plot(*both, label=name, linewidth=2, markersize=5, markevery=every, **kind)
    ax.set_xlim(0, 1.01)
    ax.set_ylim(0, 1.02)
    ax.legend(fontsize=TEXT - 1, frameon=False)
    title = "Precision and recall within a Hamming radius, mean over queries"
    return finish(ax, title, "recall", "precision")
