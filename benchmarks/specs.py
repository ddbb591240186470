"""From suites to specs: plain JSON that alone says what is run."""

from typing import Any

from .datasets import Purpose
from .methods import METHODS
from .registry import check_known
from .results import Spec
from .running.contests import KERNELS
from .suites import EVALUATION, MILLION, Entry, KernelSuite, QualitySuite, Suite

Selection = list[tuple[Suite, list[Spec]]]  # what a command is about


def plan(suite: QualitySuite) -> list[Spec]:
    """List the specs of a report: every method at every length with every seed."""
    return [
        spec_of(suite, entry, bits, seed)
        for seed in suite.seeds
        for entry in suite.entries
        for bits in suite.bits
    ]


def spec_of(suite: QualitySuite, entry: Entry, bits: int, seed: int) -> Spec:
    """Spell out one run of a report. Fixed options win over tuned ones."""
    return make_spec(suite, entry, bits, seed, tuned_settings(suite, entry))


def tuned_settings(suite: QualitySuite, entry: Entry) -> dict[str, Any]:
    """Look up what tuning chose; nothing if the suite was never tuned.

    Raises:
        ValueError: the suite was tuned, but not this method.
    """
    if suite.tuned is None:
        return {}
    try:
        return suite.tuned.settings[entry.name]
    except KeyError:
        which = f" --dataset {suite.dataset}" if suite.one_of_several else ""
        raise ValueError(
            f"{suite.tuned.source} has no settings of {entry.name}; run "
            f"`python -m benchmarks tune --suite {suite.name}{which} "
            f"--methods {entry.name}`"
        ) from None


def make_spec(
    suite: QualitySuite,
    entry: Entry,
    bits: int,
    seed: int,
    settings: dict[str, Any],
    purpose: Purpose = "report",
) -> Spec:
    """Spell out one run, all options included: the spec alone says what is run."""
    return {
        "kind": "quality",
        "suite": suite.name if purpose == "report" else f"{suite.name}-tune",
        "purpose": purpose,
        **suite.recipe,
        "epochs": suite.epochs if entry.epochs is None else entry.epochs,
        "method": entry.method,
        **_source(entry.method),
        **_behind(suite, entry, seed, purpose),
        "settings": METHODS[entry.method].settings({**settings, **entry.options}),
        "bits": bits,
        "seed": seed,
    }


# Nothing of an embedding depends on it; a method that makes one asks for some length.
_ANY_BITS = 24


def embedding_spec(
    suite: QualitySuite, method: str, epochs: int, seed: int, purpose: Purpose
) -> Spec:
    """Spell out the training of a network whose vectors other methods are given.

    Its settings are what tuning chose for the method itself, where the suite has it.
    """
    tuned = {} if suite.tuned is None else suite.tuned.settings.get(method, {})
    return {
        "kind": "embedding",
        "suite": suite.name if purpose == "report" else f"{suite.name}-tune",
        "purpose": purpose,
        **suite.recipe,
        "epochs": epochs,
        "method": method,
        **_source(method),
        "settings": METHODS[method].settings(tuned),
        "bits": _ANY_BITS,
        "seed": seed,
    }


def _behind(
    suite: QualitySuite, entry: Entry, seed: int, purpose: Purpose
) -> dict[str, Spec]:
    if entry.behind is None:
        return {}
    epochs = suite.epochs if entry.epochs is None else entry.epochs
    return {"behind": embedding_spec(suite, entry.behind, epochs, seed, purpose)}


def _source(method: str) -> dict[str, str]:
    """Name the version of a method from outside; nothing of those of this repository."""
    source = METHODS[method].source
    return {} if source is None else {"source": source}


def plan_kernels(suite: KernelSuite, names: list[str] | None = None) -> list[Spec]:
    """List the specs of a suite, or of some of its kernels."""
    names = list(KERNELS) if names is None else names
    check_known("kernel", names, KERNELS)
    sizes = ("repeats", "batch_size", "bits", "queries", "database", "classes")
    common = {name: getattr(suite, name) for name in sizes}
    about = {"kind": "kernel", "suite": suite.name, "dataset": "synthetic", "seed": 0}
    return [
        {**about, "kernel": name, **common}
        | (suite.evaluation if name.startswith(EVALUATION) else {})
        | (suite.million if name.startswith(MILLION) else {})
        for name in names
    ]
