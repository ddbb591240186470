"""How the numbers of a table came about, one line a fact."""

from collections.abc import Sequence
from statistics import fmean, stdev

from ..datasets import PROTOCOLS
from ..methods import METHODS
from ..results import Record
from ..suites import MEMORY, QualitySuite
from ..training.trunks import MLP
from .runs import Run, metrics_of, records_of
from .verdict import BASIS

EDGE = "†"  # marks rows whose search should have looked further


def protocol(suite: QualitySuite, runs: Sequence[Run], command: str) -> list[str]:
    """Say how the numbers came about, one line a fact."""
    lines = [metric.sentence for metric in metrics_of(runs)]
    done = records_of(runs)
    lines.append(BASIS)
    lines.append(
        f"Mean ± standard deviation over seeds {', '.join(map(str, suite.seeds))}."
    )
    lines.append(
        "In brackets: the rank of a mean among the codes of its length; 1, the highest, is "
        "bold. A row that lacks a run has no rank, nor has an embedding of floats."
    )
    if done:
        lines += _split_lines(done)
    lines += [
        f"no: {label} does not suit this data set ({reason})."
        for label, reason in sorted({(r.row.label, r.refused) for r in runs if r.refused})
    ]
    lines += [
        f"failed: {label} ({reason})."
        for label, reason in sorted({(r.row.label, r.failure) for r in runs if r.failure})
    ]
    lines += [
        f"{_epochs(suite)} of batches of {suite.batch_size} for every trained method, "
        f"with one trunk and Adam, its learning rate falling along a cosine in the last "
        f"{suite.decay:.0%} of the steps; the last epoch counts, none is chosen.",
        *_trunk_lines(suite, done),
        _budget_line(suite),
        _settings_line(suite),
        *_edge_lines(suite),
        f"Training seconds: {_clock(suite)}, without evaluation; head: its count of "
        "numbers.",
    ]
    return [*lines, *origins(done), f"Command: `{command}`."]


def sizes_by_protocol(done: Sequence[Record]) -> dict[str, list[str]]:
    """Say how many items the parts of the splits have."""
    sizes: dict[str, set[str]] = {}
    for split in (record["split"] for record in done):
        text = ", ".join(f"{count} {part}" for part, count in split["sizes"].items())
        # records older than the names of protocols are of digits
        sizes.setdefault(split.get("protocol", "digits"), set()).add(text)
    return {name: sorted(texts) for name, texts in sizes.items()}


def _split_lines(done: Sequence[Record]) -> list[str]:
    return [
        PROTOCOLS[name].text.format(sizes="; ".join(texts))
        for name, texts in sizes_by_protocol(done).items()
    ]


def _epochs(suite: QualitySuite) -> str:
    own = any(entry.epochs is not None for entry in suite.entries)
    return f"{suite.epochs} epochs{' (or as a row says)' if own else ''}"


def _budget_line(suite: QualitySuite) -> str:
    trials = "no trials"
    if suite.tuned is not None and suite.tuning is not None:
        trials = f"{suite.tuning.trials} trials"
    most = suite.head_parameters
    head = (
        "a head of any size"
        if most is None
        else f"a head of at most {most:,} numbers on the trunk"
    )
    return (
        f"Budget of every method: {_epochs(suite)}, {trials} of tuning, "
        f"{len(suite.seeds)} seeds, {head} while training."
    )


def _settings_line(suite: QualitySuite) -> str:
    if suite.tuned is None or suite.tuning is None:
        return "Settings: the defaults of each method; nothing was tuned."
    lent = suite.settings_of is not None and suite.tuned.source.startswith(
        f"{suite.settings_of}_"
    )
    end = "no test query took part"
    if lent:
        end = (
            f"they are those of suite {suite.settings_of} on this set, in whose search "
            "items that ask here may have been trained on; methods without settings have "
            "nothing of that"
        )
    return (
        f"Settings: chosen from {suite.tuning.trials} random trials for each method, one "
        "setting for all lengths, on validation queries at "
        f"{', '.join(map(str, suite.tuning.bits))} bits with seeds "
        f"{', '.join(map(str, suite.tuning.seeds))} "
        f"(`{suite.tuned.source}` holds what was chosen, and says how to have all trials); "
        f"{end}."
    )


def _edge_lines(suite: QualitySuite) -> list[str]:
    """Name the rows of which a chosen number is the lowest or the highest one tried."""
    if suite.tuned is None:
        return []
    rows: dict[str, list[str]] = {}
    for entry in suite.entries:
        for option, end in suite.tuned.edges.get(entry.name, {}).items():
            rows.setdefault(f"{option} {end}", []).append(entry.label)
    if not rows:
        return []
    found = "; ".join(f"{which} ({', '.join(labels)})" for which, labels in rows.items())
    return [f"{EDGE} A chosen setting lies at an end of what its search tried: {found}."]


def _trunk_lines(suite: QualitySuite, done: Sequence[Record]) -> list[str]:
    """Say how images became vectors; nothing of the trunk that features have."""
    if suite.trunk == MLP:
        return []
    images = "random cuts, mirrored or not," if suite.augment else "whole images"
    sums = {(r["inputs"]["weights"], r["inputs"]["weights_sha256"]) for r in done}
    weights = [name + (f" (SHA-256 {sha})" if sha else "") for name, sha in sums]
    return [
        f"Trunk: {suite.trunk}, trained end to end on {images} with "
        f"{suite.trunk_lr_factor:g} times the learning rate of the head. Methods on raw "
        "features are given those of the untrained trunk, unless they stand behind another "
        "method.",
        *(f"Weights of the trunk before training: {text}." for text in sorted(weights)),
        *_memory_lines(suite, done),
        *_behind_lines(suite),
        *_accuracy_lines(done),
    ]


def _memory_lines(suite: QualitySuite, done: Sequence[Record]) -> list[str]:
    if suite.loader != MEMORY:
        return []
    sizes = sorted({r["inputs"]["transform"]["crop"] for r in done})
    exact = sorted({r["inputs"]["precision"] for r in done})
    some = "" if suite.most_items is None else f" At most {suite.most_items:,} are taken."
    return [
        f"Images are decoded once, stay on the device as bytes ({_joined(sizes)} pixels a "
        f"side), and are cut and mirrored there; the trunk computes in {_joined(exact)}."
        f"{some} Images/s: those of training. Peak memory: on a GPU what torch holds "
        "there, on a CPU the whole process."
    ]


def _behind_lines(suite: QualitySuite) -> list[str]:
    """Name the trainings that serve several rows."""
    rows: dict[str, list[str]] = {}
    for entry in suite.entries:
        if entry.behind is not None:
            rows.setdefault(METHODS[entry.behind].label, []).append(entry.label)
    return [
        f"One training of {label} for all lengths gives the vectors of {'; '.join(names)}: "
        "its seconds are counted in each."
        for label, names in rows.items()
    ]


def _accuracy_lines(done: Sequence[Record]) -> list[str]:
    """Say how well the trunk classifies queries; once for each seed, whoever tells it."""
    by_seed: dict[int, float] = {}
    for record in done:
        if "accuracy" in record:
            by_seed[record["spec"]["seed"]] = record["accuracy"]
    if not by_seed:
        return []
    found = [by_seed[seed] for seed in sorted(by_seed)]
    spread = f" ± {stdev(found):.3f}" if len(found) > 1 else ""
    return [
        f"The trunk with a classifier names the class of {fmean(found):.3f}{spread} of the "
        f"queries whose class was trained on, mean over {len(found)} seeds."
    ]


def _joined(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _clock(suite: QualitySuite) -> str:
    if suite.trunk == MLP:
        return "one thread"
    return "images in memory" if suite.loader == MEMORY else "loading of images included"


def origins(done: Sequence[Record]) -> list[str]:
    """Say with which versions, where and by which code results were made."""
    lines = []
    for versions, place in sorted({(_versions(r), _place(r)) for r in done}):
        lines.append(f"Made with {versions} on {place}.")
    lines += [f"Code: {text}." for text in sorted({_commit(r) for r in done})]
    return lines


def _place(record: Record) -> str:
    device = record.get("device", "cpu")  # records older than the option are of the CPU
    return record["cpu"] if device == "cpu" else f"{device} beside {record['cpu']}"


def _versions(record: Record) -> str:
    return ", ".join(f"{name} {v}" for name, v in record["versions"].items())


def _commit(record: Record) -> str:
    git = record["git"]
    if git is None:
        return f"sources {record['code']}"
    state = " with local changes" if git["dirty"] else ""
    return f"commit {git['commit'][:12]}{state}, sources {record['code']}"
