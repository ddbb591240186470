"""Tables of a quality suite: mean, spread and rank of every row."""

import statistics
from collections.abc import Sequence

from ..suites import QualitySuite, Row
from .contenders import ASYMMETRIC
from .metrics import Metric, main_metrics
from .notes import EDGE, protocol
from .runs import Run, Value, metric_value, metrics_of, train_seconds
from .standing import means, ranks

USAGE = {"images_per_s": "images/s", "peak_mib": "peak memory, MiB"}  # of a trunk


def cell(runs: Sequence[Run], value: Value, form: str = ".3f") -> str:
    """Summarise the runs of one method at one length: mean ± sd, or why there is none."""
    if any(run.refused for run in runs):
        return "no"
    failed = sum(run.failure is not None for run in runs)
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


def main_table(suite: QualitySuite, runs: Sequence[Run]) -> str:
    """Lay out method x bits: mAP (and NDCG) with its rank, and seconds of training.

    Real queries against codes stand beside it, where a method can do that.
    """
    decisive = _shown_first(runs)
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
        rows.append([_marked(suite, row), *cells, _mean(seconds)])
    return markdown(header, rows)


def _shown_first(runs: Sequence[Run]) -> list[Metric]:
    found = metrics_of(runs)
    return [*main_metrics(found), *(m for m in found if m.name == f"{ASYMMETRIC}map")]


def _marked(suite: QualitySuite, row: Row) -> str:
    """Mark a row of which a chosen setting lies at an end of what the search tried."""
    at_an_end = suite.tuned is not None and row.entry.name in suite.tuned.edges
    return f"{row.label} {EDGE}" if at_an_end else row.label


def _ranked(text: str, rank: int | None) -> str:
    if rank is None:
        return text
    return f"**{text}** (1)" if rank == 1 else f"{text} ({rank})"


def detail_table(suite: QualitySuite, runs: Sequence[Run]) -> str:
    """Lay out what the main table has no room for, one row a method and length."""
    first = _shown_first(runs)
    others = [metric for metric in metrics_of(runs) if metric not in first]
    usage = [name for name in USAGE if any(name in (r.record or {}) for r in runs)]
    header = ["method", "bits", *(m.label for m in others), "training, s"]
    header += [*(USAGE[name] for name in usage), "head, training", "head, served"]
    rows = []
    for row in suite.rows:
        for bits in suite.bits:
            own = _at([run for run in runs if run.row == row], bits)
            cells = [cell(own, metric_value(m.name)) for m in others]
            sizes = [_head(own, when) for when in ("training", "serving")]
            seconds = cell(own, train_seconds, ".2f")
            used = [cell(own, _recorded(name), ".0f") for name in usage]
            rows.append([row.label, str(bits), *cells, seconds, *used, *sizes])
    return markdown(header, rows)


def _recorded(name: str) -> Value:
    return lambda run: None if run.record is None else run.record.get(name)


def along_the_way(suite: QualitySuite, runs: Sequence[Run]) -> str:
    """Lay out the codes of other lengths that a training left; nothing if none did.

    `before_m` and `after_m` are those right before and right after merge m, without any
    training in between; `at_K` are codes of K bits that the trained head still gives.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.others))
    if not names:
        return ""
    metric = main_metrics(metrics_of(runs))[-1]
    rows = []
    for row in suite.rows:
        for bits in suite.bits:
            own = _at([run for run in runs if run.row == row and run.others], bits)
            if own:
                values = [
                    [run.others.get(n, {}).get(metric.name) for run in own] for n in names
                ]
                final = cell(own, metric_value(metric.name))
                rows.append([row.label, str(bits), *map(mean_and_sd, values), final])
    header = ["method", "bits", *names, "end"]
    head = f"### Codes along the way: {metric.label}\n\n"
    return head + markdown(header, rows)


def mean_and_sd(values: Sequence[float | None]) -> str:
    """Summarise those of some values that there are."""
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


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table whose columns line up on a terminal as well."""
    header, *rows = ([c.replace("|", "\\|") for c in row] for row in (header, *rows))
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    lines = [
        [c.ljust(w) for c, w in zip(r, widths, strict=True)] for r in (header, rule, *rows)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _at(runs: Sequence[Run], bits: int) -> list[Run]:
    return [run for run in runs if run.bits == bits]


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2f}" if values else "–"


def _head(runs: Sequence[Run], when: str) -> str:
    counts = {r.record["head_parameters"][when] for r in runs if r.record and r.metrics}
    return ", ".join(f"{count:,}" for count in sorted(counts)) or "–"
