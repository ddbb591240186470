"""One chart of a suite, from its summary alone: quality against bits, a line a family."""

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ..results import write_file
from . import figures, verdict
from .captions import Picture
from .contenders import Contender, complete, contenders, decisive, lengths_of
from .metrics import METRICS
from .summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRONG = 10  # lines in colour
MOST = 16  # rows of a suite with one length
NAMES = {
    "nm": "NMLayer",
    "direct": "loss alone",
    "adapted": "adapted to what is searched",
    "quantizer": "quantizers",
    "post": "embedding, then quantized",
    "reg": "loss with regularizers",
    "class": "code of the predicted class",
    "other": "others",
    "supervised": "shallow, supervised",
    "unsupervised": "networks without labels",
    "control": "controls",
    "floats": "features as they are",
}
COLORS = {name: f"C{place}" for place, name in enumerate(NAMES)}  # alike in every chart
COLORS |= {"control": "0.45", "floats": "0.1"}
_SHADES = 32
_DPI = 60
_WIDEST = 34  # letters of a row's name in a legend


def draw(summary: Summary) -> Figure:
    """Draw what was found: quality against bits, rows of one length, or ratios of time."""
    if summary["kind"] == "kernels":
        return _kernels(summary["kernels"])
    found = _found(summary)
    lengths = lengths_of(c.values for all_of_them in found.values() for c in all_of_them)
    figure = _dots(summary, found) if len(lengths) == 1 else _lines(summary, found)
    figure.suptitle(verdict.title(summary), fontsize=9, wrap=True)
    return figure


def pictures_of(summary: Summary) -> Iterator[Picture]:
    """Yield the chart as a page shows it, where there is one."""
    if summary["kind"] == "kernels":
        return
    found = _found(summary)
    lengths = lengths_of(c.values for all_of_them in found.values() for c in all_of_them)
    if len(lengths) < 2:
        return
    caption = (
        "A line a family: at each length the row of the highest mean over seeds, picked "
        "within its family on the queries that judge it; the legend names the row that is "
        "picked most often. Faint: every row. x: the bits that an item really takes, side "
        "information included. A row counts by each of its ways, code against code and "
        "real query against code. The dashed line shows the features as they are."
    )
    yield Picture("families", "Quality against bits by family", caption, draw(summary))


def save(figure: Figure, path: Path) -> None:
    """Write a chart of few colours: a small file."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=_DPI, format="png")
    image = Image.open(drawn).convert("RGB").quantize(_SHADES, Image.Quantize.MAXCOVERAGE)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, lambda f: image.save(f, format="png", optimize=True))


def _found(summary: Summary) -> dict[str, list[Contender]]:
    return {name: contenders(part) for name, part in summary["datasets"].items()}


def best_of_families(
    all_of_them: list[Contender], metric: str
) -> dict[str, list[tuple[float, float, Contender]]]:
    """Pick the best of each family at each length: (bits it takes, mean, who)."""
    best: dict[str, list[tuple[float, float, Contender]]] = {}
    for bits in lengths_of(each.values for each in all_of_them):
        seen: set[str] = set()
        for each in complete(all_of_them, metric, bits):
            if each.family not in seen and (not each.floats or each.family == "floats"):
                seen.add(each.family)
                point = (each.stored[bits], each.mean(metric, bits), each)
                best.setdefault(each.family, []).append(point)
    return best


def strong(panels: list[dict[str, list[tuple[float, float, Contender]]]]) -> list[str]:
    """Choose the families in colour: at most `STRONG`, of the highest means."""
    means: dict[str, list[float]] = {}
    for families in panels:
        for family, points in families.items():
            means.setdefault(family, []).extend(mean for _, mean, _ in points)
    return sorted(means, key=lambda family: fmean(means[family]), reverse=True)[:STRONG]


def _lines(summary: Summary, found: dict[str, list[Contender]]) -> Figure:
    metrics = {name: decisive(summary["datasets"][name]) for name in found}
    panels = [best_of_families(each, metrics[name]) for name, each in found.items()]
    chosen, names = strong(panels), _names(panels)
    figure = Figure(figsize=(max(3.4 * len(found), 6.0), 4.6), layout="constrained")
    all_axes = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (dataset, own), families in zip(all_axes, found.items(), panels, strict=True):
        metric = metrics[dataset]
        for each in own:
            _faint(axes, each, metric)
        for family in chosen:
            _family(axes, families.get(family, []), family, names)
        axes.set_xticks(lengths_of(each.values for each in own))
        axes.set_xlabel("bits an item takes")
        axes.set_title(f"{dataset}: {METRICS[metric].label}", fontsize=9)
    figures.legend(figure, below=2)
    return figure


def _faint(axes: "Axes", each: Contender, metric: str) -> None:
    cells = each.values.get(metric, {})
    points = [(each.stored[b], fmean(v.values())) for b, v in sorted(cells.items()) if v]
    if points and not each.floats:
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=figures.GREY, linewidth=0.5, label=f"_{each.row}", zorder=1)


def _family(
    axes: "Axes",
    points: list[tuple[float, float, Contender]],
    family: str,
    names: dict[str, str],
) -> None:
    if not points:
        return
    color = COLORS[family]
    if family == "floats":
        mean = max(mean for _, mean, _ in points)
        axes.axhline(mean, color=color, linestyle="--", linewidth=1, label=names[family])
        return
    x, y = zip(*sorted((x, y) for x, y, _ in points), strict=True)
    axes.plot(
        x,
        y,
        color=color,
        marker="o",
        markersize=3,
        linewidth=1.4,
        label=names[family],
        zorder=2,
    )


def _names(panels: list[dict[str, list[tuple[float, float, Contender]]]]) -> dict[str, str]:
    """Name each family, and the row that is its best most often."""
    counts: dict[str, Counter[str]] = {}
    for families in panels:
        for family, points in families.items():
            labels = [each.label for _, _, each in points]
            counts.setdefault(family, Counter()).update(labels)
    return {
        family: f"{NAMES[family]}: {_short(count.most_common(1)[0][0])}"
        for family, count in counts.items()
    }


def _short(label: str) -> str:
    return label if len(label) <= _WIDEST else f"{label[: _WIDEST - 1]}…"


def _dots(summary: Summary, found: dict[str, list[Contender]]) -> Figure:
    cells = {name: _cells(summary["datasets"][name], own) for name, own in found.items()}
    first, *others = cells.values()
    whole = [row for row in first if all(row in other for other in others)]

    def mean(row: str) -> float:
        return fmean(v for own in cells.values() for v in own[row])

    best = sorted(whole, key=mean, reverse=True)
    shown = best[:MOST]
    size = (3 + 2.4 * len(found), 1.3 + 0.2 * len(shown))
    figure = Figure(figsize=size, layout="constrained")
    all_axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    places = np.arange(len(shown))
    for axes, (dataset, own) in zip(all_axes, cells.items(), strict=True):
        values = [own[row] for row in shown]
        errors = [2 * stdev(v) / len(v) ** 0.5 if len(v) > 1 else 0.0 for v in values]
        means = [fmean(v) for v in values]
        axes.errorbar(means, places, xerr=errors, fmt="o", markersize=3)
        axes.grid(axis="y", color="0.9")
        label = METRICS[decisive(summary["datasets"][dataset])].label
        axes.set_title(f"{dataset}: {label}", fontsize=8)
        axes.tick_params(labelsize=7)
    all_axes[0].set_yticks(places, shown, fontsize=7)
    all_axes[0].invert_yaxis()
    which = f"the best {len(shown)} of {len(best)} rows, " if len(shown) < len(best) else ""
    figure.supxlabel(f"{which}mean and two standard errors", fontsize=8)
    return figure


def _cells(part: dict[str, Any], own: list[Contender]) -> dict[str, list[float]]:
    """Return the values of codes at the only length, by label."""
    metric = decisive(part)
    found = {
        each.label: [
            v for cell in each.values.get(metric, {}).values() for v in cell.values()
        ]
        for each in own
        if not each.reference
    }
    return {label: values for label, values in found.items() if values}


def _kernels(kernels: dict[str, Any]) -> Figure:
    done = {name: each["ratio"] for name, each in kernels.items() if each["ratio"]}
    figure = Figure(figsize=(7, 1 + 0.2 * len(done)), layout="constrained")
    ratios = np.array([[r["low"], r["median"], r["high"]] for r in done.values()])
    figures.ratio_bars(figure.subplots(), list(done), ratios.reshape(-1, 3))
    return figure
