"""How unequally the bits of a code matter."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..merging.gini import gini
from .style import TEXT, axes_or_new, finish, look, numbers


def bit_importance(importances: Mapping[str, Any], *, ax: Any = None) -> Any:
    """Draw how much each bit of one or more codes matters, as before and after a merge.

    Bits are sorted, and importance is divided by its mean size. So codes of different
    lengths share one picture. A flat line at 1 means that all bits matter equally. Below 0
    lie bits that do harm.

    Args:
        importances: name of a code -> (K,) importance of its bits, as
            `bit_statistics(codes, labels).importance` has it.
        ax: Axes to draw on; None for a new figure.

    Returns:
        the Axes.

    Raises:
        ValueError: no code, or importances that are not finite, or all 0.

    Example:
        >>> from matplotlib.figure import Figure
        >>> shares = {"before": [4., 1., 1., 0.], "after": [1., 1.]}
        >>> ax = bit_importance(shares, ax=Figure().subplots())
        >>> [line.get_label() for line in ax.lines][1:]
        ['before: 4 bits, Gini 0.50', 'after: 2 bits, Gini 0.00']
    """
    if not importances:
        raise ValueError("there is no code to draw: importances is empty")
    ax = axes_or_new(ax)
    ax.axhline(1, color="0.6", linewidth=1)
    for place, (name, values) in enumerate(importances.items()):
        array = numbers(values, f"importances[{name!r}]", 1)
        size = np.abs(array).mean()
        if size == 0:
            raise ValueError(f"importances[{name!r}] are all 0: no bit matters")
        inequality = gini(torch.from_numpy(array))
        shown = np.sort(array)[::-1] / size
        middle = (np.arange(len(array)) + 0.5) / len(array) * 100
        kind = look(place)
        ax.plot(
            middle,
            shown,
            label=f"{name}: {len(array)} bits, Gini {inequality:.2f}",
            linewidth=2,
            markersize=5,
            **kind,
        )
    ax.set_xlim(0, 100)
    ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
    ax.legend(fontsize=TEXT - 1, frameon=False)
    return finish(
        ax,
        "Importance of single bits: what leaving one out costs",
        "bits, the most important first (% of the code)",
        "importance / its mean size",
    )
