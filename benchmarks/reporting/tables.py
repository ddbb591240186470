"""Tables and a plot of a quality suite, computed from raw results."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .datasets import PROTOCOLS
from .interface import ENCODINGS
from .judging import Metrics, judged_all
from .metrics import Metric, main_metrics, shown
from .quality import spec_of
from .results import Record, Store
from .standing import means, ranks
from .suites import QualitySuite, Row
from .trunks import MLP


@dataclass(frozen=True)
class Run:
    """One run of a suite as far as it got: the record may be missing or a failure."""

    row: Row
    bits: int
    seed: int
    record: Record | None
    metrics: dict[str, float]
    others: Metrics = field(default_factory=dict)  # of codes that are no row, by name

    @property
    def failed(self) -> bool:
        return self.record is not None and "error" in self.record

    @property
    def refused(self) -> str | None:
        """Why the method does not suit the data set, if it does not."""
        return None if self.record is None else self.record.get("refused")


def collect(suite: QualitySuite, store: Store, processes: int = 0) -> list[Run]:
    """Load every run of a suite and compute its metrics, in this process or in others."""
    places = [(e, b, s) for e in suite.entries for b in suite.bits for s in suite.seeds]
    specs = [spec_of(suite, *place) for place in places]
    runs = []
    for (entry, bits, seed), spec, metrics in zip(
        places, specs, judged_all(store, specs, processes), strict=True
    ):
        record = store.load(spec)
        others = {name: v for name, v in metrics.items() if name not in ENCODINGS}
        runs += [
            Run(Row(entry, name), bits, seed, record, metrics.get(name, {}), others)
            for name in entry.encodings
        ]
    return runs


Value = Callable[[Run], float | None]


def cell(runs: Sequence[Run], value: Value, form: str = ".3f") -> str:
    """Summarise the runs of one method at one length: mean ± sd, or why there is none."""
    if any(run.refused for run in runs):
        return "no"
    failed = sum(run.failed for run in runs)
    found = [value(run) for run in runs if run.metrics]
    values = [each for each in found if each is not None]
    if found and not values:
        return "n/a"
    note = f" ({failed} of {len(runs)} failed)" if failed else ""
    if not failed and len(values) < len(runs):
        note = f" ({len(values)} of {len(runs)} runs)"
    if not values:
        return "failed" if failed else "–"
    spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{form}}{spread}{note}"


def metric_value(name: str) -> Value:
    return lambda run: run.metrics.get(name)


def train_seconds(run: Run) -> float:
    assert run.record is not None
    return run.record["train_s"]


def main_table(suite: QualitySuite, runs: Sequence[Run]) -> str:
    """Lay out method x bits: mAP (and NDCG) with its rank, and seconds of training."""
    decisive = main_metrics(_shown(runs))
    columns = [(metric, bits) for metric in decisive for bits in suite.bits]
    rank = {m.name: ranks(suite.rows, means(runs, metric_value(m.name))) for m in decisive}
    names = [f"{metric.label}, {bits} bits" for metric, bits in columns]
    header = ["method", *names, "training, s"]
    rows = []
    for row in suite.rows:
        own = [run for run in runs if run.row == row]
        texts = [cell(_at(own, bits), metric_value(m.name)) for m, bits in columns]
        places = [rank[m.name].get((row.name, bits)) for m, bits in columns]
        cells = [_ranked(*each) for each in zip(texts, places, strict=True)]
        seconds = [train_seconds(run) for run in own if run.metrics]
        rows.append([row.label, *cells, _mean(seconds)])
    return markdown(header, rows)


def _ranked(text: str, rank: int | None) -> str:
    if rank is None:
        return text
    return f"**{text}** (1)" if rank == 1 else f"{text} ({rank})"


def detail_table(suite: QualitySuite, runs: Sequence[Run]) -> str:
    """Lay out what the main table has no room for, one row a method and length."""
    others = [metric for metric in _shown(runs) if metric.name not in ("map", "ndcg")]
    header = ["method", "bits", *(m.label for m in others), "training, s"]
    header += ["head, training", "head, served"]
    rows = []
    for row in suite.rows:
        for bits in suite.bits:
            own = _at([run for run in runs if run.row == row], bits)
            cells = [cell(own, metric_value(m.name)) for m in others]
            sizes = [_head(own, when) for when in ("training", "serving")]
            seconds = cell(own, train_seconds, ".2f")
            rows.append([row.label, str(bits), *cells, seconds, *sizes])
    return markdown(header, rows)


def along_the_way(suite: QualitySuite, runs: Sequence[Run]) -> str:
    """Lay out the codes of other lengths that a training left; nothing if none did.

    `before_m` and `after_m` are those right before and right after merge m, without any
    training in between; `at_K` are codes of K bits that the trained head still gives.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.others))
    if not names:
        return ""
    metric = main_metrics(_shown(runs))[-1]
    rows = []
    for row in suite.rows:
        for bits in suite.bits:
            own = _at([run for run in runs if run.row == row and run.others], bits)
            if own:
                values = [
                    [run.others.get(n, {}).get(metric.name) for run in own] for n in names
                ]
                final = cell(own, metric_value(metric.name))
                rows.append([row.label, str(bits), *map(_mean_and_sd, values), final])
    header = ["method", "bits", *names, "end"]
    head = f"### Codes along the way: {metric.label}\n\n"
    return head + markdown(header, rows)


def _mean_and_sd(values: Sequence[float | None]) -> str:
    found = [each for each in values if each is not None]
    if not found:
        return "–"
    spread = f" ± {statistics.stdev(found):.3f}" if len(found) > 1 else ""
    return f"{statistics.fmean(found):.3f}{spread}"


def table_text(suite: QualitySuite, runs: Sequence[Run], command: str) -> str:
    """Write the whole of table.md: tables, and what one must know to read them."""
    parts = [
        f"## Suite `{suite.name}`: {suite.dataset}",
        main_table(suite, runs),
        "\n".join(f"- {line}" for line in protocol(suite, runs, command)),
        "### Details",
        detail_table(suite, runs),
        along_the_way(suite, runs),
    ]
    parts = [part for part in parts if part]
    return "\n\n".join(parts) + "\n"


def protocol(suite: QualitySuite, runs: Sequence[Run], command: str) -> list[str]:
    """Say how the numbers came about, one line a fact."""
    lines = [f"{m.rule[0].upper()}{m.rule[1:]}." for m in _shown(runs)]
    done = [run.record for run in runs if run.record is not None and run.metrics]
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
        f"{suite.epochs} epochs of batches of {suite.batch_size} for every trained method, "
        f"with one trunk and Adam, its learning rate falling along a cosine in the last "
        f"{suite.decay:.0%} of the steps; the last epoch counts, none is chosen.",
        *_trunk_lines(suite, done),
        _budget_line(suite),
        _settings_line(suite),
        f"Training seconds: {_clock(suite)}, without evaluation; head: its count of "
        "numbers.",
    ]
    return [*lines, *_origin(done), f"Command: `{command}`."]


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


def _budget_line(suite: QualitySuite) -> str:
    trials = "no trials"
    if suite.tuned is not None and suite.tuning is not None:
        trials = f"{suite.tuning.trials} trials"
    most = suite.head_parameters
    head = "a head of any size" if most is None else f"a head of at most {most:,} numbers"
    return (
        f"Budget of every method: {suite.epochs} epochs, {trials} of tuning, "
        f"{len(suite.seeds)} seeds, {head} while training."
    )


def _settings_line(suite: QualitySuite) -> str:
    if suite.tuned is None or suite.tuning is None:
        return "Settings: the defaults of each method; nothing was tuned."
    return (
        f"Settings: chosen from {suite.tuning.trials} random trials for each method, one "
        "setting for all lengths, on validation queries at "
        f"{', '.join(map(str, suite.tuning.bits))} bits with seeds "
        f"{', '.join(map(str, suite.tuning.seeds))} "
        f"(`{suite.tuned.source}` holds all trials); no test query took part."
    )


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
        "features are given those of the untrained trunk.",
        *(f"Weights of the trunk before training: {text}." for text in sorted(weights)),
    ]


def _clock(suite: QualitySuite) -> str:
    return "one thread" if suite.trunk == MLP else "loading of images included"


def _origin(done: Sequence[Record]) -> list[str]:
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


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table whose columns line up on a terminal as well."""
    header, *rows = ([c.replace("|", "\\|") for c in row] for row in (header, *rows))
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    lines = [
        [c.ljust(w) for c, w in zip(r, widths, strict=True)] for r in (header, rule, *rows)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(runs: Sequence[Run]) -> list[Metric]:
    return shown(run.metrics for run in runs)


def _at(runs: Sequence[Run], bits: int) -> list[Run]:
    return [run for run in runs if run.bits == bits]


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2f}" if values else "–"


def _head(runs: Sequence[Run], when: str) -> str:
    counts = {r.record["head_parameters"][when] for r in runs if r.record and r.metrics}
    return ", ".join(f"{count:,}" for count in sorted(counts)) or "–"
