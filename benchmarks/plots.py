"""The plot of a quality suite."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from .metrics import METRICS
from .report import Run
from .suites import QualitySuite


def plot_against_bits(
    suite: QualitySuite, runs: Sequence[Run], path: Path, metric: str = "map"
) -> None:
    """Draw a metric against bits: every run faint, the mean of each method bold."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    colors = plt.get_cmap("tab20")
    for position, row in enumerate(suite.rows):
        points = [
            (run.bits, run.metrics[metric])
            for run in runs
            if run.row == row and run.metrics
        ]
        if not points:
            continue
        color = colors(position % 20)
        lengths, values = zip(*points, strict=True)
        axes.scatter(lengths, values, color=color, alpha=0.3, s=12, linewidths=0)
        bits = sorted({b for b, _ in points})
        means = [statistics.fmean(v for b, v in points if b == length) for length in bits]
        axes.plot(bits, means, color=color, marker="o", markersize=4, label=row.label)
    axes.set_xticks(suite.bits)
    axes.set_xlabel("bits")
    wish = "higher" if METRICS[metric].better == "up" else "lower"
    axes.set_ylabel(f"{METRICS[metric].label} ({wish} is better)")
    axes.set_title(f"{suite.name}: {suite.dataset}")
    if axes.get_legend_handles_labels()[1]:  # nothing to name before the first result
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=150, format="png")
    temporary.replace(path)
    plt.close(figure)
