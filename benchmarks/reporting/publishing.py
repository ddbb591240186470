"""A report as it is published: a short table, one chart, a small summary."""

from pathlib import Path

from ..results import write_text
from . import chart
from .short_table import CHART, shortened
from .summary import SUMMARY, load_summary, save_small_summary

TABLE = "table.md"


def publish(report: Path, folder: Path) -> None:
    """Write the small form of a report.

    Args:
        report: the folder of a suite, with the whole table.md and summary.json.
        folder: where the small ones go.
    """
    summary = load_summary(report / SUMMARY)
    table = (report / TABLE).read_text()
    write_text(folder / TABLE, shortened(table, summary["command"]))
    save_small_summary(folder / SUMMARY, summary)
    chart.save(chart.draw(summary), folder / CHART)
