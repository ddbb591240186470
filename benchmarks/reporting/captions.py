"""A figure with its caption, and what captions have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from .metrics import Metric
from .report import Run, sizes_by_protocol
from .suites import QualitySuite

NORMALISER = {
    "map": "AP is divided by the number of relevant items (as by every normaliser @all)",
    "ndcg": "DCG is divided by that of the best order",
}


@dataclass(frozen=True)
class Picture:
    """A figure and its caption; without a figure the caption says why there is none."""

    name: str  # of letters, digits, "-" and "_": the id in a page
    title: str
    caption: str
    figure: Figure | None


Section = tuple[str, str, Sequence[Picture]]  # of a page: name, Markdown, figures


def about(metric: Metric) -> str:
    """Say what a metric is, and how it is normalised."""
    extra = f"; {NORMALISER[metric.name]}" if metric.name in NORMALISER else ""
    return f"{metric.rule[0].upper()}{metric.rule[1:]}{extra}."


def basis(suite: QualitySuite, runs: Sequence[Run]) -> str:
    """Say what numbers rest on: seeds and sizes."""
    done = [run.record for run in runs if run.record is not None and run.metrics]
    texts = (text for each in sizes_by_protocol(done).values() for text in each)
    seeds = ", ".join(map(str, suite.seeds))
    return f"Data set {suite.dataset}, seeds {seeds}; items: {'; '.join(texts)}."
