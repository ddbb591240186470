"""A figure with its caption, and what captions have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from ..suites import QualitySuite
from .notes import sizes_by_protocol
from .runs import Run, records_of


@dataclass(frozen=True)
class Picture:
    """A figure and its caption; without a figure the caption says why there is none."""

    name: str  # of letters, digits, "-" and "_": the id in a page
    title: str
    caption: str
    figure: Figure | None


Section = tuple[str, str, Sequence[Picture]]  # of a page: name, Markdown, figures


def basis(suite: QualitySuite, runs: Sequence[Run]) -> str:
    """Say what numbers rest on: seeds and sizes."""
    sizes = sizes_by_protocol(records_of(runs)).values()
    texts = (text for each in sizes for text in each)
    seeds = ", ".join(map(str, suite.seeds))
    return f"Data set {suite.dataset}, seeds {seeds}; items: {'; '.join(texts)}."
