"""What the command line does: one function a command, returning the exit status."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import yaml

from . import kernels, plots, quality, report, runner, tuning
from .datasets import DATASETS
from .interface import METHODS
from .metrics import METRICS
from .results import Spec, Store, write_text
from .suites import (
    KernelSuite,
    QualitySuite,
    Suite,
    load_suite,
    narrow,
    suite_names,
    suite_path,
    tuned_path,
)


def list_names(options: Namespace) -> int:
    """Name everything that has a name."""
    print(f"suites: {', '.join(suite_names())}")
    for kind, names in (("datasets", DATASETS), ("metrics", METRICS)):
        print(f"{kind}: {', '.join(names)}")
    print(f"kernels: {', '.join(kernels.KERNELS)}")
    print("methods:")
    width = max(map(len, METHODS))
    for name in METHODS:
        print(f"  {name:{width}}  {METHODS[name].label}")
    return 0


def run(options: Namespace) -> int:
    """Run what is missing, then report."""
    suite, specs = _selection(options)
    processes = 1 if isinstance(suite, KernelSuite) else options.jobs
    store = Store(options.out)
    summary = runner.run(specs, store, processes, suite.timeout_s, options.force)
    _report(suite, specs, store, options)
    _say(summary)
    return 1 if summary.failed else 0


def report_stored(options: Namespace) -> int:
    """Report on what is stored."""
    suite, specs = _selection(options)
    _report(suite, specs, Store(options.out), options)
    return 0


def tune(options: Namespace) -> int:
    """Search settings, and write them where the suite will look for them."""
    suite = load_suite(options.suite, with_tuned=False)
    if isinstance(suite, KernelSuite):
        raise ValueError(f"suite {suite.name} has nothing to tune")
    whole, suite = suite, narrow(suite, options.methods)
    store = Store(options.out)
    specs = tuning.plan(suite)
    summary = runner.run(specs, store, options.jobs, suite.timeout_s, options.force)
    outcomes = {entry.name: tuning.choose(suite, entry, store) for entry in suite.entries}
    path = tuned_path(suite_path(options.suite))
    write_text(path, tuning.tuned_file(whole, outcomes, _outcomes_before(whole, path)))
    print(f"wrote {path}")
    _say(summary)
    return 0


def _selection(options: Namespace) -> tuple[Suite, list[Spec]]:
    suite = load_suite(options.suite)
    if isinstance(suite, QualitySuite):
        suite = narrow(suite, options.methods, options.bits, options.seeds)
        return suite, quality.plan(suite)
    for name in ("bits", "seeds"):
        if getattr(options, name) is not None:
            raise ValueError(f"suite {suite.name} is about kernels and takes no --{name}")
    return suite, kernels.plan(suite, options.methods)


def _report(suite: Suite, specs: list[Spec], store: Store, options: Namespace) -> None:
    folder = store.folder(suite.name)
    command = _command(options)
    if isinstance(suite, KernelSuite):
        text = kernels.table_text(suite, specs, store, command)
        print(text)
    else:
        runs = report.collect(suite, store)
        text = report.table_text(suite, runs, command)
        print(report.main_table(suite, runs))
        plots.plot_against_bits(suite, runs, folder / "map_vs_bits.png")
    write_text(folder / "table.md", text)
    print(f"\nwrote {folder / 'table.md'}")


def _command(options: Namespace) -> str:
    """Rebuild the command that leads to a table, as far as it decides about it."""
    words = ["python -m benchmarks run --suite", options.suite]
    for name in ("methods", "bits", "seeds"):
        if getattr(options, name) is not None:
            words += [f"--{name}", *map(str, getattr(options, name))]
    return " ".join(words)


def _outcomes_before(suite: QualitySuite, path: Path) -> dict[str, Any]:
    """Keep what an earlier call chose for other methods, if it searched alike."""
    if not path.exists():
        return {}
    content = yaml.safe_load(path.read_text())
    tuned = tuning.tuning_of(suite)
    same = (content["recipe"], content["trials"], content["seeds"])
    if same != (suite.recipe, tuned.trials, [*tuned.seeds]):
        return {}
    return content["methods"]


def _say(summary: runner.Summary) -> None:
    print(f"{summary.done} runs done, {summary.skipped} skipped, {summary.failed} failed")
    if summary.stale:
        print(
            f"note: {summary.stale} of the skipped results come from other code than this; "
            "--force repeats them",
            file=sys.stderr,
        )
