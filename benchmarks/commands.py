"""What the command line does: one function a command, returning the exit status."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from . import tuned_files, tuning, validation
from .datasets import PROTOCOLS, SOURCES, data_root
from .methods import METHODS
from .outcomes import say, say_failures
from .reporting import compare, summing
from .reporting.finding import findings_text
from .reporting.metrics import METRICS
from .reporting.packing import reduced
from .reporting.runs import collect_all
from .reporting.summary import SUMMARY, load_summary, narrow_summary
from .results import Spec, Store, file_name, write_text
from .running import extract, runner
from .running.contests import KERNELS
from .running.devices import Machine, check_device
from .running.inputs import check_inputs
from .specs import Selection, plan, plan_kernels
from .suite_files import about_suite, load_suites, suite_names
from .suites import KernelSuite, QualitySuite, Suite, narrow
from .training.trunks import TRUNKS

# Where published results lie, which `compare` takes for the baseline.
BASELINES = Path(__file__).resolve().parent.parent / "docs" / "results"


def list_names(options: Namespace) -> int:
    """Name everything that has a name."""
    _print_table("suites", {name: about_suite(name) for name in suite_names()})
    print(f"metrics: {', '.join(METRICS)}")
    print(f"kernels: {', '.join(KERNELS)}")
    print(f"protocols: {', '.join(PROTOCOLS)}")
    print(f"trunks: {', '.join(TRUNKS)}")
    _print_table("datasets", {name: SOURCES[name].about for name in SOURCES})
    explained = {name: f"{each.label}. {each.about}" for name, each in METHODS.items()}
    _print_table("methods", explained)
    return 0


def extract_features(options: Namespace) -> int:
    """Write the features of an image set."""
    count, width = extract.extract(
        options.dataset,
        options.trunk,
        options.out,
        options.weights,
        data_root(options.data_root),
        options.device,
        options.batch_size,
        options.jobs,
    )
    print(f"wrote {count:,} x {width} features: {options.out}")
    return 0


def _print_table(kind: str, rows: dict[str, str]) -> None:
    print(f"{kind}:")
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"  {name:{width}}  {text}")


def run(options: Namespace) -> int:
    """Run what is missing, then report."""
    selection = _selection(options)
    suite = selection[0][0]
    processes = 1 if isinstance(suite, KernelSuite) else options.jobs
    store = Store(options.out)
    specs = [spec for _, own in selection for spec in own]
    summary = _run(specs, store, processes, suite, options)
    _report(selection, store, options)
    say(summary)
    say_failures(selection, store)
    return 1 if summary.failed else 0


def report_stored(options: Namespace) -> int:
    """Report on what is stored, and publish the small form where that is asked for."""
    selection, store = _selection(options), Store(options.out)
    reports = _reports(selection, store, options)
    if options.publish is not None and len(reports) > 1:
        raise ValueError(
            f"--publish takes one report, and this command writes {len(reports)}: a data "
            "set that is not all of its suite has its own; name one --dataset"
        )
    _report(selection, store, options)
    if options.publish is not None:
        from .reporting.publishing import publish

        publish(reports[0][1], options.publish)
        print(f"published {options.publish}")
    return 0


def compare_stored(options: Namespace) -> int:
    """Compare what is stored with a baseline; 1 if something is worse or missing."""
    selection, store = _selection(options), Store(options.out)
    path = options.baseline or _published(selection[0][0].name)
    choice = options.dataset, options.methods, options.bits, options.seeds
    baseline = narrow_summary(load_summary(path), *choice)
    runs = collect_all(selection, store, options.jobs)
    now = summing.of_selection(selection, runs, store, _command(options))
    if baseline["digits"] is not None:  # a published one
        now = reduced(now)
    found = compare.findings(baseline, now)
    print(findings_text(found, compare.other_origins(baseline, now)))
    return 1 if any(each.failing for each in found) else 0


def _published(suite: str) -> Path:
    if not BASELINES.is_dir():
        raise ValueError(
            "published results are part of the repository, not of an installed package; "
            f"name a {SUMMARY} by --baseline"
        )
    return BASELINES / suite / SUMMARY


def draw_gallery(options: Namespace) -> int:
    """Draw what one stored code finds for some queries."""
    from .reporting import gallery

    specs = [spec for _, own in _selection(options) for spec in own]
    if len(specs) != 1:
        raise ValueError(
            f"a gallery is of one run, and this command names {len(specs)}: say one of "
            "--dataset, --methods, --bits and --seeds each"
        )
    drawn = gallery.draw(specs[0], Store(options.out), data_root(options.data_root))
    gallery.save(drawn, options.page)
    print(f"wrote {options.page}")
    return 0


def write_confirmed(options: Namespace) -> int:
    """Say of findings on frozen features whether images confirm them."""
    from .reporting import confirmed

    suites = dict.fromkeys(task.features[0] for task in confirmed.TASKS)
    features = {name: load_summary(_published(name)) for name in suites}
    images = load_summary(options.summary)
    write_text(options.page, confirmed.text(features, images, options.bits))
    print(f"wrote {options.page}")
    return 0


def write_leaderboard(options: Namespace) -> int:
    """Write one page from the summaries of all suites."""
    from .reporting import leaderboard

    usual = [folder for folder in (BASELINES, options.out) if folder.is_dir()]
    paths = leaderboard.find_summaries(options.summaries or usual or [options.out])
    page = options.page or options.out / "leaderboard.html"
    write_text(page, leaderboard.html(paths))
    print(f"wrote {page} from {len(paths)} summaries")
    return 0


def tune(options: Namespace) -> int:
    """Search settings, and write them where the suite will look for them."""
    for whole in load_suites(
        options.suite, False, options.dataset, options.out, options.scale
    ):
        if isinstance(whole, KernelSuite):
            raise ValueError(f"suite {whole.name} has nothing to tune")
        suite = narrow(whole, options.methods)
        store = Store(options.out)
        summary = runner.Summary()
        outcomes: dict[str, dict[str, Any]] = {}
        for stage in tuning.stages(suite):
            searched = tuning.behind_what_was_chosen(stage, outcomes)
            specs = tuning.plan(searched)
            summary += _run(specs, store, options.jobs, searched, options)
            say_failures([(stage, specs)], store)  # a method may have no other runs
            for entry in searched.entries:
                outcomes[entry.name] = tuning.choose(searched, entry, store)
        whole = whole.with_networks()
        now = tuned_files.made_here(whole, outcomes)
        for path in (tuned_files.record_file(suite, store), suite.settings_file):
            before = tuned_files.outcomes_before(whole, path)
            content = tuned_files.whole(whole, {**before, **now})
            if path == suite.settings_file:
                content = tuned_files.small(whole, content)
            write_text(path, tuned_files.text_of(whole, content, options.scale))
            print(f"wrote {path}")
        say(summary)
    return 0


def validate(options: Namespace) -> int:
    """Run methods on validation queries, with no search, and print one table."""
    suites = []
    for suite in load_suites(options.suite, False, options.dataset, options.out):
        if isinstance(suite, KernelSuite):
            raise ValueError(f"suite {suite.name} has no queries to validate on")
        suites.append(narrow(suite, options.methods))
    store = Store(options.out)
    specs = [spec for suite in suites for spec in validation.plan(suite)]
    summary = _run(specs, store, options.jobs, suites[0], options)
    say_failures([(suite, validation.plan(suite)) for suite in suites], store)
    print(validation.table(suites, store))
    say(summary)
    return 1 if summary.failed else 0


def _run(
    specs: list[Spec], store: Store, processes: int, suite: Suite, options: Namespace
) -> runner.Summary:
    return runner.run(
        specs,
        store,
        processes=processes,
        timeout_s=suite.timeout_s,
        force=options.force,
        root=data_root(options.data_root),
        machine=_machine(suite, options),
        methods_from=options.methods_from,
    )


def _machine(suite: Suite, options: Namespace) -> Machine:
    """Check that runs can have what they need, before the first one starts."""
    machine = Machine(check_device(options.device), options.loaders)
    if isinstance(suite, QualitySuite):
        check_inputs(suite, machine)
    elif machine.loaders:
        raise ValueError(f"suite {suite.name} is about kernels and takes no --loaders")
    return machine


def _selection(options: Namespace) -> Selection:
    return [
        _narrowed(suite, options)
        for suite in load_suites(
            options.suite,
            datasets=options.dataset,
            results=options.out,
            scale=options.scale,
        )
    ]


def _narrowed(suite: Suite, options: Namespace) -> tuple[Suite, list[Spec]]:
    if isinstance(suite, QualitySuite):
        suite = narrow(suite, options.methods, options.bits, options.seeds)
        return suite, plan(suite)
    for name in ("bits", "seeds"):
        if getattr(options, name) is not None:
            raise ValueError(f"suite {suite.name} is about kernels and takes no --{name}")
    return suite, plan_kernels(suite, options.methods)


def _report(selection: Selection, store: Store, options: Namespace) -> None:
    # Drawing takes a second to import, and worker processes import this file.
    from .reporting.writing import write_report

    for part, folder in _reports(selection, store, options):
        command = _command(_about(options, part))
        write_report(part, store, folder, options.jobs, command)


def _reports(
    selection: Selection, store: Store, options: Namespace
) -> list[tuple[Selection, Path]]:
    """Say which reports there are, and in which folders.

    That on all data sets of a suite lies in the folder of the suite. Any other choice has
    one report a data set, in its own folder: none overwrites that of another.
    """
    folder = store.folder(selection[0][0].name)
    if options.dataset is None:
        return [(selection, folder)]
    named = {
        _dataset(suite)
        for suite in load_suites(options.suite, with_tuned=False, scale=options.scale)
    }
    if {_dataset(suite) for suite, _ in selection} == named:
        return [(selection, folder)]
    return [([each], folder / file_name(_dataset(each[0]))) for each in selection]


def _dataset(suite: Suite) -> str:
    assert isinstance(suite, QualitySuite)  # only these take --dataset
    return suite.dataset


def _about(options: Namespace, selection: Selection) -> Namespace:
    """Narrow options to the data sets of a report."""
    if options.dataset is None:
        return options
    datasets = [_dataset(suite) for suite, _ in selection]
    return Namespace(**{**vars(options), "dataset": datasets})


def _command(options: Namespace) -> str:
    """Rebuild the command that leads to a table, as far as it decides about it."""
    words = ["python -m benchmarks run --suite", options.suite]
    for name in ("scale", "dataset", "methods", "methods_from", "bits", "seeds"):
        given = getattr(options, name)
        if given:
            given = [given] if isinstance(given, str) else given
            words += [f"--{name.replace('_', '-')}", *map(str, given)]
    if getattr(options, "device", "cpu") != "cpu":  # `report` and `compare` have none
        words += ["--device", options.device]
    return " ".join(words)
