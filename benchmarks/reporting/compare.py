"""Results against a baseline: what became worse, by more than chance explains?

- A kernel is worse if its ratio (ours / peer) is 1.2 times the baseline's or more.
- A metric of a row at one length is worse if it fell by more than two standard errors.
  Values are paired by seed: the mean of the differences against their standard error. With
  fewer than two seeds, or without any spread, every drop beyond 1e-9 counts.
- What the baseline has and the results lack is missing, which is as bad.
- Results on another split, with other settings or of other sizes are not compared but
  named, and this is no success either: make a new baseline if it was meant.
"""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from .finding import ORDER, Finding, changes_of
from .metrics import METRICS
from .summary import Summary

SLOWER = 1.2
ERRORS = 2.0
_TINY = 1e-9


def findings(baseline: Summary, now: Summary) -> list[Finding]:
    """Compare two summaries of one suite, worst first.

    Raises:
        ValueError: they are of different suites, or have nothing in common to look at.
    """
    for key in ("suite", "kind"):
        if baseline[key] != now[key]:
            raise ValueError(
                f"the baseline is of the {key} {baseline[key]!r}, the results are of "
                f"{now[key]!r}; compare like with like"
            )
    if now["kind"] == "kernels":
        found = list(_kernels(baseline["kernels"], now["kernels"]))
    else:
        found = list(_datasets(baseline["datasets"], now["datasets"]))
    if all(each.verdict == "new" for each in found):
        raise ValueError(
            "the baseline holds nothing to compare these results with; choose other "
            "--dataset, --methods, --bits or --seeds, or another --baseline"
        )
    return sorted(found, key=lambda each: (ORDER.index(each.verdict), -each.loss))


def _kernels(before: dict[str, Any], now: dict[str, Any]) -> Iterator[Finding]:
    for name, old in before.items():
        if old["ratio"] is None:
            continue
        new = now.get(name)
        if new is None or new["ratio"] is None:
            yield Finding("missing", "kernels", name, old["ratio"]["median"])
        elif changes := changes_of({**old["spec"], "peer": old["peer"]}, _sizes(new)):
            yield Finding("not comparable", "kernels", name, why=changes)
        else:
            yield _ratio(name, old["ratio"]["median"], new["ratio"]["median"])
    for name in now:
        if now[name]["ratio"] is not None and before.get(name, {}).get("ratio") is None:
            yield Finding("new", "kernels", name, now=now[name]["ratio"]["median"])


def _sizes(kernel: dict[str, Any]) -> dict[str, Any]:
    return {**kernel["spec"], "peer": kernel["peer"]}


def _ratio(name: str, before: float, now: float) -> Finding:
    verdict = "within noise"
    if now >= SLOWER * before:
        verdict = "worse"
    elif now * SLOWER <= before:
        verdict = "better"
    elif now == before:
        verdict = "same"
    loss = now / before - 1
    return Finding(verdict, "kernels", name, before, now, loss, f"time {loss:+.0%}")


def _datasets(before: dict[str, Any], now: dict[str, Any]) -> Iterator[Finding]:
    for name, old in before.items():
        if name not in now:
            yield Finding("missing", name, "the whole data set")
        elif changes := changes_of(old["recipe"], now[name]["recipe"]):
            yield Finding("not comparable", name, "the whole data set", why=changes)
        else:
            yield from _rows(name, old, now[name])
    for name in (name for name in now if name not in before):
        yield Finding("new", name, "the whole data set")


def _rows(dataset: str, before: dict[str, Any], now: dict[str, Any]) -> Iterator[Finding]:
    splits = {
        seed: (split, now["splits"][seed])
        for seed, split in before["splits"].items()
        if seed in now["splits"]
    }
    other = [seed for seed, (old, new) in splits.items() if old != new]
    if other:
        yield Finding(
            "not comparable", dataset, f"seeds {', '.join(other)}", why="other splits"
        )
    for name, old in before["rows"].items():
        if name not in now["rows"]:
            yield Finding("missing", dataset, name, why="the suite has no such row")
            continue
        new = now["rows"][name]
        if changes := changes_of(_making(old), _making(new)):
            yield Finding("not comparable", dataset, name, why=changes)
            continue
        yield from _missing(dataset, name, old, new)
        for metric, lengths in old["values"].items():
            for bits, values in lengths.items():
                found = new["values"].get(metric, {}).get(bits, {})
                pairs = [
                    (values[seed], found[seed])
                    for seed in values
                    if seed not in other and None not in (values[seed], found.get(seed))
                ]
                if pairs:
                    yield quality(dataset, f"{name}, {bits} bits", metric, pairs)
    for name in (name for name in now["rows"] if name not in before["rows"]):
        yield Finding("new", dataset, name)


def _making(row: dict[str, Any]) -> dict[str, Any]:
    return {"method": row["method"], "encoding": row["encoding"], **row["settings"]}


def _missing(
    dataset: str, name: str, before: dict[str, Any], now: dict[str, Any]
) -> Iterator[Finding]:
    lost: dict[tuple[str, str], str] = {}
    for metric, lengths in before["values"].items():
        for bits, values in lengths.items():
            found = now["values"].get(metric, {}).get(bits, {})
            for seed in (s for s in values if values[s] is not None):
                if found.get(seed) is None:
                    reason = now["missing"].get(bits, {}).get(seed, f"no {metric}")
                    lost.setdefault((bits, seed), reason)
    if lost:
        places = "; ".join(f"{bits} bits, seed {seed}" for bits, seed in list(lost)[:3])
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        reasons = "; ".join(dict.fromkeys(lost.values()))
        why = f"{places}{more}: {reasons}"
        yield Finding("missing", dataset, name, loss=len(lost), why=why)


def quality(
    dataset: str, what: str, metric: str, pairs: Sequence[tuple[float, float]]
) -> Finding:
    sign = 1 if METRICS[metric].better == "up" else -1
    gains = [sign * (now - before) for before, now in pairs]
    error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    gain, limit = statistics.fmean(gains), max(ERRORS * error, _TINY)
    verdict = "within noise"
    if abs(gain) > limit:
        verdict = "better" if gain > 0 else "worse"
    elif abs(gain) <= _TINY:
        verdict = "same"
    before, now = (statistics.fmean(values) for values in zip(*pairs, strict=True))
    label = f"{what}, {METRICS[metric].label}"
    why = f"{sign * gain:+.4f} over {len(gains)} seeds, two errors {ERRORS * error:.4f}"
    return Finding(verdict, dataset, label, before, now, -gain, why)


def other_origins(baseline: Summary, now: Summary) -> list[str]:
    """Name versions, processors and devices that only one side's results come from."""
    old, new = (
        {text for origin in side["origins"] for text in _made(origin)}
        for side in (baseline, now)
    )
    own = {"baseline": sorted(old - new), "results": sorted(new - old)}
    return [f"only in the {side}: {', '.join(each)}" for side, each in own.items() if each]


def _made(origin: dict[str, Any]) -> list[str]:
    versions = (f"{name} {v}" for name, v in origin["versions"].items())
    # summaries older than the entry are of the CPU
    return [*versions, origin["cpu"], f"device {origin.get('device', 'cpu')}"]
