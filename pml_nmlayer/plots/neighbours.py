"""Queries, what was found for them, and the bits that decided."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..codes import unpack_codes
from .style import COLOURS, TEXT, axes_or_new, finish

_GAP = 0.12  # between tiles, in widths of a tile


def neighbour_gallery(
    query_images: Any,
    query_codes: Any,
    images: Any,
    codes: Any,
    rows: Any,
    *,
    bits: int,
    same: Any = None,
    ax: Any = None,
) -> Any:
    """Draw queries and their nearest neighbours, with the code below each image.

    One row of tiles a query; the query stands at the left. A code is a strip of black (1)
    and white (0) cells. Bits that differ from those of the query are orange. A dashed frame
    marks a neighbour that is not of the query's class.

    Args:
        query_images: (Q, H, W) grey or (Q, H, W, 3) colour.
        query_codes: (Q, ceil(bits / 8)) packed codes.
        images: (N, H, W) or (N, H, W, 3), the database.
        codes: (N, ceil(bits / 8)) packed codes of the database.
        rows: (Q, k) rows of the database, nearest first, as `HashIndex.search` returns.
        bits: code length.
        same: (Q, k) of bool, whether a neighbour is relevant; None for no frames.
        ax: Axes to draw on; None for a new figure.

    Returns:
        the Axes.

    Raises:
        ValueError: shapes that do not fit each other, or rows outside of the database.

    Example:
        >>> from matplotlib.figure import Figure
        >>> images, codes = np.eye(4)[None].repeat(3, 0), np.uint8([[192], [128], [64]])
        >>> ax = neighbour_gallery(images[:1], codes[:1], images, codes, [[0, 1]], bits=4,
        ...                        ax=Figure().subplots())
        >>> [text.get_text() for text in ax.texts]
        ['query', '0', '1']
    """
    query_images, images = np.asarray(query_images), np.asarray(images)
    found = np.asarray(rows)
    _check(query_images, images, found, same)
    query_bits, all_bits = _cells(query_codes, bits), _cells(codes, bits)
    if len(query_bits) != len(query_images) or len(all_bits) != len(images):
        raise ValueError(
            f"each image needs a code, got {len(query_images)} query images and "
            f"{len(query_bits)} codes, {len(images)} images and {len(all_bits)} codes"
        )
    queries, k = found.shape
    tall = images.shape[1] / images.shape[2]
    strip = 0.16
    ax = axes_or_new(ax, (1.25 * (k + 1) + 0.4, (1.25 * tall + 0.55) * queries + 0.5))
    step = tall + strip + 0.36
    for i in range(queries):
        bottom = -i * step
        _tile(ax, 0, bottom, query_images[i], query_bits[i], query_bits[i], strip)
        _note(ax, 0, bottom + tall, "query")
        for j, row in enumerate(found[i]):
            left = (j + 1) * (1 + _GAP) + _GAP
            _tile(ax, left, bottom, images[row], all_bits[row], query_bits[i], strip)
            _note(ax, left, bottom + tall, str(int((all_bits[row] != query_bits[i]).sum())))
            if same is not None:
                _frame(ax, left, bottom, tall, bool(np.asarray(same)[i, j]))
    ax.set_xlim(-0.06, (k + 1) * (1 + _GAP) + 0.1)
    ax.set_ylim(-(queries - 1) * step - strip - 0.1, tall + 0.26)
    ax.set_aspect("equal")
    ax.set_axis_off()
    wrong = "" if same is None else "; dashed: another class"
    return finish(ax, f"Nearest codes of {bits} bits and their distances{wrong}")


def _check(query_images: Any, images: Any, rows: Any, same: Any) -> None:
    for name, array in (("query_images", query_images), ("images", images)):
        if array.ndim not in (3, 4) or len(array) == 0:
            raise ValueError(
                f"{name} must have shape (N, H, W) or (N, H, W, 3), got {array.shape}"
            )
    if rows.ndim != 2 or len(rows) != len(query_images) or rows.dtype.kind not in "iu":
        raise ValueError(
            f"rows must be whole numbers of shape ({len(query_images)}, k), got "
            f"{rows.dtype} of shape {rows.shape}"
        )
    if rows.size and not 0 <= rows.min() <= rows.max() < len(images):
        raise ValueError(
            f"rows must lie between 0 and {len(images) - 1}, got {rows.min()} to "
            f"{rows.max()}; an index without ids of yours returns rows"
        )
    if same is not None and np.shape(same) != rows.shape:
        raise ValueError(f"same must have shape {rows.shape}, got {np.shape(same)}")


def _cells(codes: Any, bits: int) -> npt.NDArray[np.bool_]:
    import torch

    packed = torch.as_tensor(np.asarray(codes))
    return np.asarray(unpack_codes(packed, bits) > 0)


def _tile(
    ax: Any, left: float, bottom: float, image: Any, code: Any, query: Any, strip: float
) -> None:
    tall = image.shape[0] / image.shape[1]
    grey = {"cmap": "gray"} if image.ndim == 2 else {}
    ax.imshow(image, extent=(left, left + 1, bottom, bottom + tall), zorder=1, **grey)
    width = 1 / len(code)
    orange, black = COLOURS[1], "black"
    for at, (bit, own) in enumerate(zip(code, query, strict=True)):
        colour = black if bit == own else orange
        ax.add_patch(
            _rectangle(
                left + at * width,
                bottom - strip,
                width,
                strip - 0.03,
                facecolor=colour if bit else "white",
                edgecolor=colour,
                hatch=None if bit or bit == own else "xxxx",
                linewidth=0.5,
            )
        )


def _frame(ax: Any, left: float, bottom: float, tall: float, same: bool) -> None:
    ax.add_patch(
        _rectangle(
            left,
            bottom,
            1,
            tall,
            fill=False,
            edgecolor=COLOURS[0] if same else COLOURS[1],
            linestyle="-" if same else (0, (2, 1)),
            linewidth=1.5 if same else 3,
            zorder=3,
        )
    )


def _note(ax: Any, left: float, top: float, text: str) -> None:
    ax.text(left + 0.5, top + 0.03, text, ha="center", va="bottom", fontsize=TEXT - 1)


def _rectangle(left: float, bottom: float, width: float, height: float, **how: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((left, bottom), width, height, **how)
