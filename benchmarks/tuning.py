"""Tuning: the same small random search for every method, judged on validation queries."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .methods import METHODS
from .reporting.judging import judged
from .results import Spec, Store
from .specs import make_spec
from .suites import Entry, QualitySuite, Tuned
from .tuned_files import tuning_of

Settings = dict[str, Any]


def trials(suite: QualitySuite, entry: Entry) -> list[Settings]:
    """Draw the settings to try. The first trial is the defaults; fixed options stay out."""
    method = METHODS[entry.method]
    space = {name: s for name, s in method.space.items() if name not in entry.options}
    defaults = method.defaults()
    count = tuning_of(suite).trials - 1
    # One stream an option, not a method: all methods try the same learning rates.
    columns = {name: s.draw(_stream(suite, name), count) for name, s in space.items()}
    drawn = [{name: values[i] for name, values in columns.items()} for i in range(count)]
    return [{name: defaults[name] for name in space}, *drawn]


def _stream(suite: QualitySuite, option: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{suite.name}/{option}".encode()).digest()
    return np.random.default_rng(list(digest))


def specs_of(
    suite: QualitySuite, entry: Entry, settings: Settings, bits: int
) -> list[Spec]:
    """List the runs that judge one trial at one length: one a tuning seed."""
    return [
        make_spec(suite, entry, bits, seed, settings, purpose="tune")
        for seed in tuning_of(suite).seeds
    ]


def stages(suite: QualitySuite) -> list[QualitySuite]:
    """Part a suite: networks behind which methods stand come before these methods."""
    first = tuple(entry for entry in suite.with_networks().entries if entry.behind is None)
    behind = tuple(entry for entry in suite.entries if entry.behind is not None)
    parts = [replace(suite, entries=entries) for entries in (first, behind)]
    return [part for part in parts if part.entries]


def behind_what_was_chosen(
    suite: QualitySuite, outcomes: Mapping[str, dict[str, Any]]
) -> QualitySuite:
    """Let networks behind methods have the settings that a search has just chosen.

    Args:
        suite: one of `stages`.
        outcomes: of the stages before, see `choose`.
    """
    settings = {
        name: outcome["chosen"]["settings"]
        for name, outcome in outcomes.items()
        if "chosen" in outcome
    }
    return replace(suite, tuned=Tuned("", settings))


def plan(suite: QualitySuite) -> list[Spec]:
    """List every run of the search."""
    return [
        spec
        for entry in suite.entries
        for settings in trials(suite, entry)
        for bits in tuning_of(suite).bits
        for spec in specs_of(suite, entry, settings, bits)
    ]


def score(specs: Sequence[Spec], store: Store) -> float:
    """Judge one trial from its raw results; NaN if any of its runs failed."""
    return float(np.mean([_criterion(spec, store) for spec in specs]))


def _criterion(spec: Spec, store: Store) -> float:
    if not store.has_result(spec):
        return math.nan
    values = judged(store, spec)[METHODS[spec["method"]].encodings[0]]
    return values.get("ndcg", values["map"])


@dataclass(frozen=True)
class Trial:
    """Settings that were tried, and the score at each length."""

    settings: Settings
    scores: dict[int, float]

    @property
    def score(self) -> float:
        """The mean over the lengths; NaN if a run of any length failed."""
        return float(np.mean(list(self.scores.values())))


def choose(suite: QualitySuite, entry: Entry, store: Store) -> dict[str, Any]:
    """Pick the best trial, the first one of equals.

    Returns:
        `chosen` and all `trials`, as they stand in the YAML; or why the method is
        `refused`, if it does not suit the data set.

    Raises:
        ValueError: no trial ended well.
    """
    reason = _refusal(suite, entry, store)
    if reason is not None:
        return {"refused": reason}
    tried = [
        Trial(
            settings,
            {
                bits: score(specs_of(suite, entry, settings, bits), store)
                for bits in tuning_of(suite).bits
            },
        )
        for settings in trials(suite, entry)
    ]
    valid = [trial for trial in tried if not math.isnan(trial.score)]
    if not valid:
        raise ValueError(f"every trial of {entry.name} failed")
    best = max(valid, key=lambda trial: trial.score)
    return {
        **({} if entry.epochs is None else {"epochs": entry.epochs}),
        "chosen": {"settings": best.settings, "score": _round(best.score)},
        "trials": [
            {
                "settings": trial.settings,
                "scores": {bits: _round(value) for bits, value in trial.scores.items()},
            }
            for trial in tried
        ],
    }


def _refusal(suite: QualitySuite, entry: Entry, store: Store) -> str | None:
    defaults = trials(suite, entry)[0]
    record = store.load(specs_of(suite, entry, defaults, tuning_of(suite).bits[0])[0])
    return None if record is None else record.get("refused")


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
