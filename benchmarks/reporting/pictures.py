"""Which figures a report has, from which numbers, and what their captions say."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from pml_nmlayer.hamming import hamming_histograms
from pml_nmlayer.ranking import precision_recall_curve

from ..results import Spec, Store
from ..specs import plan_kernels, spec_of
from ..suite_files import load_suite
from ..suites import KernelSuite, QualitySuite
from . import figures, insides, statistics
from .captions import Picture, Section, basis
from .figures import Looks, Points
from .kernel_tables import quartiles
from .metrics import Metric, main_metrics
from .paired import compare_rows
from .runs import Run, metric_value, metrics_of, train_seconds
from .standing import best_first, highlights, means


def of_quality(suite: QualitySuite, runs: Sequence[Run], store: Store) -> list[Picture]:
    """Draw all figures of one data set."""
    done = [run for run in runs if run.metrics]
    if not done:
        return [Picture("none", "Figures", "No run has a result yet.", None)]
    metrics = main_metrics(metrics_of(runs))
    averages = means(runs, metric_value(metrics[-1].name))
    coloured = highlights(suite.rows, averages, suite.bits)
    look = figures.looks(suite.rows, coloured)
    best = best_first(suite.rows, averages, suite.bits) or coloured
    return [
        *(against_bits(suite, runs, metric, look) for metric in metrics),
        precision_recall(suite, done, store, look),
        training_cost(suite, runs, metrics[-1], look),
        *insides.merging(suite, done, store, best),
        *of_statistics({suite.dataset: runs}),
    ]


def against_bits(
    suite: QualitySuite, runs: Sequence[Run], metric: Metric, look: Looks
) -> Picture:
    """Draw a metric against bits, one line a row."""
    figure, (axes,) = figures.panels(1, width=6.5)
    value = metric_value(metric.name)
    averages = means(runs, value)
    data = {}
    for row in suite.rows:
        own = [(r.bits, value(r)) for r in runs if r.row == row and r.metrics]
        places = [(row.name, bits) for bits in suite.bits]
        average = [(p[1], averages[p]) for p in places if p in averages]
        data[row.name] = Points([(b, v) for b, v in own if v is not None], average)
    figures.lines(axes, data, look)
    axes.set_xticks(suite.bits)
    axes.set_xlabel("bits")
    wish = "higher" if metric.better == "up" else "lower"
    axes.set_ylabel(f"{metric.label} ({wish} is better)")
    axes.set_title(f"{suite.name}: {suite.dataset}", fontsize=10)
    figures.legend(figure)
    caption = f"{metric.sentence} Lines are means, faint dots are runs. {_grey(look)}"
    name = f"{metric.name}-against-bits"
    return Picture(
        name, f"{metric.label} against bits", caption + basis(suite, runs), figure
    )


def precision_recall(
    suite: QualitySuite, done: Sequence[Run], store: Store, look: Looks
) -> Picture:
    """Draw precision against recall of coloured codes, one panel a length."""
    codes = [
        row.name for row in suite.rows if row.kind == "hamming" and look[row.name].label
    ]
    figure, all_axes = figures.panels(len(suite.bits))
    for axes, bits in zip(all_axes, suite.bits, strict=True):
        data = {}
        for name in codes:
            own = [run for run in done if (run.row.name, run.bits) == (name, bits)]
            own = [run for run in own if _has_codes(suite, run, store)]
            if own:
                curve = np.mean([_curve(suite, run, store) for run in own], axis=0)
                points = [(r, p) for p, r in curve.T.tolist() if not np.isnan(p)]
                data[name] = Points([], points)
        figures.lines(axes, data, look)
        axes.set_title(f"{bits} bits", fontsize=10)
        axes.set_xlabel("recall")
    all_axes[0].set_ylabel("precision")
    figures.legend(figure)
    caption = (
        "Precision and recall of all items within Hamming radius 0, 1, 2, … of a query: "
        "whole balls, so ties play no part. Each is a mean over queries, then over seeds; "
        "a query whose ball is empty is left out of the precision of that radius. "
    )
    return Picture(
        "precision-recall", "Precision and recall", caption + basis(suite, done), figure
    )


def _has_codes(suite: QualitySuite, run: Run, store: Store) -> bool:
    return store.has_codes(spec_of(suite, run.row.entry, run.bits, run.seed))


def _curve(suite: QualitySuite, run: Run, store: Store) -> np.ndarray:
    """Return (2, K + 1): precision and recall at every radius."""
    spec = spec_of(suite, run.row.entry, run.bits, run.seed)
    kinds = (run.row.encoding, "labels")
    names = [f"{part}_{kind}" for part in ("query", "database") for kind in kinds]
    arrays = store.load_arrays(spec, names)
    q, q_labels, r, r_labels = (torch.from_numpy(arrays[name]) for name in names)
    items, hits = hamming_histograms(q, q_labels, r, r_labels, bits=run.bits)
    curve = precision_recall_curve(items, hits)
    return torch.stack(curve).numpy()


def training_cost(
    suite: QualitySuite, runs: Sequence[Run], metric: Metric, look: Looks
) -> Picture:
    """Draw a metric against seconds of training, one panel a length."""
    figure, all_axes = figures.panels(len(suite.bits))
    averages, seconds = means(runs, metric_value(metric.name)), means(runs, train_seconds)
    for axes, bits in zip(all_axes, suite.bits, strict=True):
        places = [(r.name, bits) for r in suite.rows if (r.name, bits) in averages]
        figures.dots(axes, {p[0]: (seconds[p], averages[p]) for p in places}, look)
        figures.log_scale(axes)
        axes.set_title(f"{bits} bits", fontsize=10)
        axes.set_xlabel("seconds of training")
    all_axes[0].set_ylabel(metric.label)
    figures.legend(figure)
    caption = (
        f"{metric.sentence} Seconds: as in the tables, without evaluation. Both are "
        f"means over seeds. {_grey(look)}"
    )
    title = f"Training cost: {metric.label} against seconds"
    return Picture("training-cost", title, caption + basis(suite, runs), figure)


def of_statistics(runs: Mapping[str, Sequence[Run]]) -> list[Picture]:
    """Draw who differs from whom on all data sets given; nothing if none can be told."""
    comparison = compare_rows(runs)
    if comparison.nothing is not None:
        return []
    size = statistics.diagram_inches(comparison)
    figure = Figure(figsize=size, layout="constrained")
    statistics.draw_diagram(comparison, figure.subplots())
    caption = statistics.about_diagram(comparison)
    return [Picture("critical-difference", "Critical differences", caption, figure)]


def of_kernels(suite: KernelSuite, specs: Sequence[Spec], store: Store) -> list[Picture]:
    """Draw the ratios of all kernels that have a result; nothing without any."""
    done = [spec for spec in specs if store.has_result(spec)]
    if not done:
        return []
    ratios = np.array([quartiles(store.load_arrays(spec)) for spec in done])
    figure = Figure(figsize=(8.5, 1 + 0.24 * len(done)), layout="constrained")
    axes = figure.subplots()
    figures.ratio_bars(axes, [spec["kernel"] for spec in done], ratios)
    caption = (
        "Ours / peer, both timed in turn: bars end at the median over repeats, lines join "
        f"the quartiles; synthetic data, seed {done[0]['seed']}. Peers, sizes and repeats: "
        f"the table of suite `{suite.name}`."
    )
    return [Picture("kernel-ratios", "Kernels: ratios of time", caption, figure)]


def kernel_section(name: str, store: Store) -> list[Section]:
    """Show the suite `kernels`, too, where its results lie beside those of suite `name`."""
    suite = load_suite("kernels")
    if name == suite.name or not isinstance(suite, KernelSuite):
        return []
    drawn = of_kernels(suite, plan_kernels(suite), store)
    text = f"## Suite `{suite.name}`: seconds\n\nOf the same results folder.\n"
    return [(suite.name, text, drawn)] if drawn else []


def _grey(look: Looks) -> str:
    grey = sum(own.label is None for own in look.values())
    if not grey:
        return ""
    return f"Grey: the {grey} other rows, which tables name. "
