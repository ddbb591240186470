"""One small chart of a suite, from its summary alone."""

import io
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ..methods import METHODS
from ..results import write_file
from . import figures
from .metrics import METRICS
from .summary import Summary

STRONG = 10  # lines in colour
ALIKE = 2  # of them of one family
MOST = 16  # rows of a suite with one length
_COLORS = 16
_DPI = 60
Cells = dict[int, list[float]]  # values of a row, by length


def draw(summary: Summary) -> Figure:
    """Draw what was found: quality against bits, rows of one length, or ratios of time."""
    if summary["kind"] == "kernels":
        return _kernels(summary["kernels"])
    found = {name: _values(part) for name, part in summary["datasets"].items()}
    labels = {
        name: row["label"]
        for part in summary["datasets"].values()
        for name, row in part["rows"].items()
    }
    lengths = {b for _, rows in found.values() for cells in rows.values() for b in cells}
    best = _best_first(found)
    if len(lengths) == 1:
        return _dots(found, labels, best)
    rows = {
        k: row for part in summary["datasets"].values() for k, row in part["rows"].items()
    }
    return _lines(found, labels, _strong(best, rows))


def save(figure: Figure, path: Path) -> None:
    """Write a chart of few colours: a small file."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=_DPI, format="png")
    image = Image.open(drawn).convert("RGB").quantize(_COLORS, Image.Quantize.MAXCOVERAGE)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, lambda f: image.save(f, format="png", optimize=True))


def _values(part: dict[str, Any]) -> tuple[str, dict[str, Cells]]:
    """Return the metric that decides, and its values by row; embeddings left out."""
    rows = part["rows"].items()
    metric = "ndcg" if any("ndcg" in row["values"] for _, row in rows) else "map"
    values = {
        name: {
            int(bits): [v for v in cell.values() if v is not None]
            for bits, cell in row["values"].get(metric, {}).items()
        }
        for name, row in rows
        if row["encoding"] != "float"
    }
    return metric, {
        name: {bits: own for bits, own in cells.items() if own}
        for name, cells in values.items()
        if any(cells.values())
    }


def _best_first(found: dict[str, tuple[str, dict[str, Cells]]]) -> list[str]:
    """Sort rows that have a result on every data set by their mean."""
    parts = [rows for _, rows in found.values()]
    whole = [name for name in parts[0] if all(name in rows for rows in parts)]

    def mean(name: str) -> float:
        cells = [fmean(own) for rows in parts for own in rows[name].values()]
        return fmean(cells)

    return sorted(whole, key=mean, reverse=True)


def _strong(best: list[str], rows: dict[str, dict[str, Any]]) -> list[str]:
    """Choose what is drawn in colour: all of few rows, else the best of each family."""
    if len(best) <= STRONG:
        return best
    families: dict[str, list[str]] = {}
    for name in best:
        own = (
            rows[name]["entry"] == rows[name]["method"] and rows[name]["method"] in METHODS
        )
        family = METHODS[rows[name]["method"]].family if own else "control"
        families.setdefault(family, []).append(name)
    chosen = [name for names in families.values() for name in names[:ALIKE]]
    return [name for name in best if name in chosen][:STRONG]


def _lines(
    found: dict[str, tuple[str, dict[str, Cells]]],
    labels: dict[str, str],
    strong: list[str],
) -> Figure:
    figure, all_axes = figures.panels(len(found))
    for axes, (dataset, (metric, rows)) in zip(all_axes, found.items(), strict=True):
        for name in sorted(rows, key=lambda each: each in strong):
            points = sorted((bits, fmean(own)) for bits, own in rows[name].items())
            x, y = zip(*points, strict=True)
            place = strong.index(name) if name in strong else None
            axes.plot(
                x,
                y,
                color=figures.GREY if place is None else f"C{place}",
                marker="" if place is None else "o",
                markersize=3,
                linewidth=0.6 if place is None else 1.3,
                label=f"_{name}" if place is None else labels[name],
            )
        axes.set_xticks(sorted({bits for cells in rows.values() for bits in cells}))
        axes.set_xlabel("bits")
        axes.set_title(f"{dataset}: {METRICS[metric].label}", fontsize=9)
    figures.legend(figure)
    return figure


def _dots(
    found: dict[str, tuple[str, dict[str, Cells]]], labels: dict[str, str], best: list[str]
) -> Figure:
    shown = best[:MOST]
    size = (3 + 2.4 * len(found), 1 + 0.2 * len(shown))
    figure = Figure(figsize=size, layout="constrained")
    all_axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    places = np.arange(len(shown))
    for axes, (dataset, (metric, rows)) in zip(all_axes, found.items(), strict=True):
        cells = [[v for own in rows[name].values() for v in own] for name in shown]
        errors = [2 * stdev(c) / len(c) ** 0.5 if len(c) > 1 else 0.0 for c in cells]
        axes.errorbar([fmean(c) for c in cells], places, xerr=errors, fmt="o", markersize=3)
        axes.grid(axis="y", color="0.9")
        axes.set_title(f"{dataset}: {METRICS[metric].label}", fontsize=8)
        axes.tick_params(labelsize=7)
    all_axes[0].set_yticks(places, [labels[name] for name in shown], fontsize=7)
    all_axes[0].invert_yaxis()
    which = f"the best {len(shown)} of {len(best)} rows, " if len(shown) < len(best) else ""
    figure.supxlabel(f"{which}mean and two standard errors", fontsize=8)
    return figure


def _kernels(kernels: dict[str, Any]) -> Figure:
    done = {name: each["ratio"] for name, each in kernels.items() if each["ratio"]}
    figure = Figure(figsize=(7, 1 + 0.2 * len(done)), layout="constrained")
    ratios = np.array([[r["low"], r["median"], r["high"]] for r in done.values()])
    figures.ratio_bars(figure.subplots(), list(done), ratios.reshape(-1, 3))
    return figure
