"""All files of a report: table.md, summary.json, report.html and pictures of their own."""

from collections.abc import Sequence

from ..results import Spec, Store, file_name, write_text
from ..specs import Selection
from ..suites import KernelSuite, QualitySuite
from . import figures, insides, kernel_tables, page, pictures, statistics, summing, tables
from .captions import Picture, Section
from .runs import Run, collect_all
from .summary import SUMMARY, save_summary


def write_report(selection: Selection, store: Store, processes: int, command: str) -> None:
    """Write the report of a suite into its folder, and print its tables.

    Args:
        selection: a suite for each data set, with its specs; one suite of kernels.
        store: where the results lie.
        processes: that judge what is not judged yet.
        command: by which the report can be had.
    """
    name = selection[0][0].name
    folder = store.folder(name)
    runs = collect_all(selection, store, processes)
    sections = [
        _kernels(suite, specs, store, command)
        if isinstance(suite, KernelSuite)
        else _quality(suite, runs[suite.dataset], store, command)
        for suite, specs in selection
    ]
    if len(runs) > 1 and (text := statistics.appendix(runs, "## All data sets")):
        sections.append(("all data sets", text, pictures.of_statistics(runs)))
    write_text(folder / "table.md", "\n".join(text for _, text, _ in sections))
    summary = summing.of_selection(selection, runs, store, command)
    save_summary(folder / SUMMARY, summary)
    sections += pictures.kernel_section(name, store)
    write_text(folder / "report.html", page.html(f"Suite {name}", sections))
    print(f"\nwrote {folder / 'table.md'} and report.html")


def _kernels(
    suite: KernelSuite, specs: Sequence[Spec], store: Store, command: str
) -> Section:
    text = kernel_tables.table_text(suite, specs, store, command)
    print(text)
    return suite.name, text, pictures.of_kernels(suite, specs, store)


def _quality(
    suite: QualitySuite, runs: Sequence[Run], store: Store, command: str
) -> Section:
    if suite.one_of_several:
        print(f"\n{suite.dataset}\n")
    print(tables.main_table(suite, runs))
    drawn = pictures.of_quality(suite, runs, store)
    _save_first(suite, drawn, store)
    parts = [
        tables.table_text(suite, runs, command),
        insides.bits_table(suite, runs, store),
        statistics.appendix({suite.dataset: runs}),
    ]
    return suite.dataset, "\n".join(part for part in parts if part), drawn


def _save_first(suite: QualitySuite, drawn: Sequence[Picture], store: Store) -> None:
    """Keep the first figure as a file as well: for places that show no HTML."""
    if drawn[0].figure is not None:
        end = f"_{file_name(suite.dataset)}" if suite.one_of_several else ""
        path = store.folder(suite.name) / f"map_vs_bits{end}.png"
        figures.save_png(drawn[0].figure, path)
