"""What a command says at its end."""

import sys

from .results import Spec, Store, key_of
from .running.runner import Summary
from .specs import Selection, spec_of
from .suites import KernelSuite, Suite


def say(summary: Summary) -> None:
    """Print how many runs were done, and where stored ones come from."""
    print(f"{summary.done} runs done, {summary.skipped} skipped, {summary.failed} failed")
    if summary.refused:
        print(
            f"note: {summary.refused} of the runs are of methods that do not suit the data "
            'set; tables say "no", and why',
            file=sys.stderr,
        )
    for count, origin in (
        (summary.stale, "other code than this"),
        (summary.elsewhere, "another device"),
    ):
        if count:
            print(
                f"note: {count} of the skipped results come from {origin}; --force "
                "repeats them",
                file=sys.stderr,
            )


def say_failures(selection: Selection, store: Store) -> None:
    """Print why runs failed."""
    for line in failures(selection, store):
        print(line, file=sys.stderr)


def failures(selection: Selection, store: Store) -> list[str]:
    """Tell why runs failed, those of one method with one reason together."""
    found: dict[tuple[str, str, str], list[Spec]] = {}
    for suite, specs in selection:
        names = _names(suite)
        for spec in specs:
            record = store.load(spec)
            if record is not None and "error" in record:
                reason = record["error"].strip().splitlines()[-1]
                usual: str = spec["method" if "method" in spec else "kernel"]
                name = names.get(key_of(spec), usual)  # or of a search
                found.setdefault((name, spec["dataset"], reason), []).append(spec)
    return [
        f"failed: {name} on {dataset}, {_places(specs)}: {reason}\n"
        f"  (whole error: {store.path(specs[0])})"
        for (name, dataset, reason), specs in found.items()
    ]


def _names(suite: Suite) -> dict[str, str]:
    """Call the runs of a report by their entries."""
    if isinstance(suite, KernelSuite):
        return {}
    return {
        key_of(spec_of(suite, entry, bits, seed)): entry.name
        for entry in suite.entries
        for bits in suite.bits
        for seed in suite.seeds
    }


def _places(specs: list[Spec]) -> str:
    lengths, seeds = (
        ", ".join(map(str, dict.fromkeys(spec[key] for spec in specs)))
        for key in ("bits", "seed")
    )
    return f"{lengths} bits, seeds {seeds}"
