"""How far items of the same and of different classes lie apart."""

from typing import Any

import numpy as np
from torch import Tensor

from ..hamming import hamming_histograms
from .style import COLOURS, TEXT, axes_or_new, finish


def distance_distribution(
    query: Tensor,
    query_labels: Tensor,
    reference: Tensor,
    reference_labels: Tensor,
    *,
    ref_includes_query: bool = False,
    bits: int | None = None,
    ax: Any = None,
) -> Any:
    """Draw the Hamming distances of same and of different pairs.

    A pair is the same if it shares a label. The title says how often a same pair is closer
    than a different one of the same database; ties count one half.

    Args:
        query: query codes, -1 and +1, or packed uint8.
        query_labels: class ids (Q,) or multi-hot rows (Q, C).
        reference: database codes, in the same form.
        reference_labels: labels of the database, in the same form.
        ref_includes_query: the database begins with the queries; none finds itself.
        bits: code length; required for packed codes only.
        ax: Axes to draw on; None for a new figure.

    Returns:
        the Axes.

    Raises:
        ValueError: as `hamming_histograms`; or there is no same, or no different pair.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> codes = torch.tensor([[1., 1.], [1., -1.], [-1., -1.]])
        >>> same, other = torch.tensor([0]), torch.tensor([0, 1])
        >>> ax = distance_distribution(codes[:1], same, codes[1:], other,
        ...                            ax=Figure().subplots())
        >>> ax.get_title().splitlines()[1]
        'same pairs are closer in 100.0 % of comparisons'
    """
    items, hits = hamming_histograms(
        query, query_labels, reference, reference_labels, ref_includes_query, bits=bits
    )
    same = hits.sum(0).double().cpu().numpy()
    other = (items - hits).sum(0).double().cpu().numpy()
    if same.sum() == 0 or other.sum() == 0:
        raise ValueError(
            f"there are {same.sum():.0f} same and {other.sum():.0f} different pairs; the "
            "picture needs both"
        )
    same, other = same / same.sum(), other / other.sum()
    closer = float((same * (other[::-1].cumsum()[::-1] - other / 2)).sum())
    ax = axes_or_new(ax)
    distances = np.arange(len(same))
    ax.bar(distances - 0.2, 100 * same, 0.4, color=COLOURS[0], label="same class")
    ax.bar(
        distances + 0.2,
        100 * other,
        0.4,
        color="white",
        edgecolor=COLOURS[1],
        hatch="////",
        linewidth=1,
        label="different class",
    )
    ax.legend(fontsize=TEXT - 1, frameon=False)
    title = (
        f"Hamming distances of pairs, {len(same) - 1} bits\n"
        f"same pairs are closer in {100 * closer:.1f} % of comparisons"
    )
    return finish(ax, title, "Hamming distance (bits)", "% of the pairs of a kind")
