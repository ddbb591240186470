"""All files of a report: table.md, summary.json, report.html and pictures of their own."""

from collections.abc import Sequence
from pathlib import Path

from ..results import Spec, Store, file_name, write_text
from ..specs import Selection
from ..suites import KernelSuite, QualitySuite
from . import (
    chart,
    figures,
    insides,
    kernel_tables,
    page,
    pictures,
    statistics,
    summing,
    tables,
    verdict,
)
from .captions import Picture, Section
from .glossary import glossary
from .runs import Run, collect_all
from .summary import SUMMARY, Summary, save_summary

TABLE = "table.md"


def write_report(
    selection: Selection, store: Store, folder: Path, processes: int, command: str
) -> None:
    """Write the report of a suite into a folder, and print its tables.

    Args:
        selection: a suite for each data set, with its specs; one suite of kernels.
        store: where the results lie.
        folder: where the report goes.
        processes: that judge what is not judged yet.
        command: by which the report can be had.
    """
    name = selection[0][0].name
    runs = collect_all(selection, store, processes)
    summary = summing.of_selection(selection, runs, store, command)
    sections = [
        _kernels(suite, specs, store, command)
        if isinstance(suite, KernelSuite)
        else _quality(suite, runs[suite.dataset], store, folder, command)
        for suite, specs in selection
    ]
    if len(runs) > 1 and (text := statistics.appendix(runs, "## All data sets")):
        sections.append(("all data sets", text, pictures.of_statistics(runs)))
    suites = [suite for suite, _ in selection if isinstance(suite, QualitySuite)]
    if suites:
        sections = [_finding(summary), *sections, ("methods", glossary(suites), [])]
    title = verdict.title(summary)
    text = "\n".join(text for _, text, _ in sections)
    write_text(folder / TABLE, f"# {title}\n\n{text}")
    save_summary(folder / SUMMARY, summary)
    sections += pictures.kernel_section(name, store)
    write_text(folder / "report.html", page.html(title, sections))
    print(f"\nwrote {folder / TABLE} and report.html")


def _finding(summary: Summary) -> Section:
    text = verdict.finding(summary)
    print(f"\n{text}")
    return "finding", f"## What was found\n\n{text}", [*chart.pictures_of(summary)]


def _kernels(
    suite: KernelSuite, specs: Sequence[Spec], store: Store, command: str
) -> Section:
    text = kernel_tables.table_text(suite, specs, store, command)
    print(text)
    return suite.name, text, pictures.of_kernels(suite, specs, store)


def _quality(
    suite: QualitySuite, runs: Sequence[Run], store: Store, folder: Path, command: str
) -> Section:
    if suite.one_of_several:
        print(f"\n{suite.dataset}\n")
    print(tables.main_table(suite, runs))
    drawn = pictures.of_quality(suite, runs, store)
    _save_first(suite, drawn, folder)
    parts = [
        tables.table_text(suite, runs, command),
        insides.bits_table(suite, runs, store),
        statistics.appendix({suite.dataset: runs}),
    ]
    return suite.dataset, "\n".join(part for part in parts if part), drawn


def _save_first(suite: QualitySuite, drawn: Sequence[Picture], folder: Path) -> None:
    """Keep the first figure as a file as well: for places that show no HTML."""
    if drawn[0].figure is not None:
        end = f"_{file_name(suite.dataset)}" if suite.one_of_several else ""
        figures.save_png(drawn[0].figure, folder / f"map_vs_bits{end}.png")
