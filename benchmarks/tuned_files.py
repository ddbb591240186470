"""Files that a search leaves: the chosen settings beside the suite, all trials in results.

Both are YAML of one shape: `criterion`, `recipe`, `seeds`, `trials` (how many), `bits`, and
`methods` by name. In the record of the results folder each has `chosen` and all `trials`,
or why it was `refused`. The small file keeps of them the chosen `settings` and their score,
and says which numbers lie at the `edge` of where the search looked. Its `made_with` lists
each origin once; a method has the place of its own, the first one if it has none.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .methods import METHODS
from .results import Store, file_name
from .running.environment import environment
from .search import Choice
from .suites import Entry, QualitySuite, Tuning

CRITERION = (
    "tie-aware mAP@all (NDCG@all if items have several labels) of validation queries, "
    "mean over the tuning seeds and the code lengths that have scores; one setting is "
    "chosen for all lengths; no test query, and no image that is one with any seed of a "
    "report, is in these splits"
)
FEW = 4  # trials: so few say nothing about the ends of a range
Outcomes = Mapping[str, dict[str, Any]]  # by name of the entry


def tuning_of(suite: QualitySuite) -> Tuning:
    """Return how a suite is tuned.

    Raises:
        ValueError: the suite says nothing about tuning.
    """
    if suite.tuning is None:
        raise ValueError(f"suite {suite.name} has no `tuning:` (trials and seeds)")
    return suite.tuning


def record_file(suite: QualitySuite, store: Store) -> Path:
    """Tell where all trials of a search are kept."""
    folder = store.folder(f"{suite.name}-tune")
    return folder / f"{file_name(suite.dataset)}_trials.yml"


def made_here(suite: QualitySuite, outcomes: Outcomes) -> dict[str, dict[str, Any]]:
    """Note on outcomes with which versions, and by which code, they were made."""
    about = environment()
    origin = {"git": about["git"], "sources": about["code"], **about["versions"]}
    found = {}
    for name, outcome in outcomes.items():
        source = METHODS[suite.entry(name).method].source
        more = {} if source is None else {"method": source}
        found[name] = {**outcome, "made_with": {**origin, **more}}
    return found


def whole(suite: QualitySuite, outcomes: Outcomes) -> dict[str, Any]:
    """Put together what a search found, all trials included.

    Args:
        suite: what was tuned.
        outcomes: of its methods, as many as there are.
    """
    names = [entry.name for entry in suite.entries if entry.name in outcomes]
    tuned = tuning_of(suite)
    return {
        "criterion": CRITERION,
        "recipe": suite.recipe,
        "seeds": list(tuned.seeds),
        "trials": tuned.trials,
        "bits": list(tuned.bits),
        "methods": {name: outcomes[name] for name in names},
    }


def small(suite: QualitySuite, content: dict[str, Any]) -> dict[str, Any]:
    """Keep the chosen settings of a `whole` record; each origin is written once.

    Args:
        suite: what was tuned.
        content: from `whole`.
    """
    origins: list[dict[str, Any]] = []
    methods = {}
    for name, outcome in content["methods"].items():
        origin = outcome["made_with"]
        if origin not in origins:
            origins.append(origin)
        kept = {key: outcome[key] for key in ("epochs", "refused") if key in outcome}
        kept |= outcome.get("chosen", {})
        edge = outcome.get("edge") or _edge(suite.entry(name), outcome)
        methods[name] = kept | ({"edge": edge} if edge else {})
        if place := origins.index(origin):
            methods[name]["made_with"] = place
    return {**content, "methods": methods, "made_with": origins}


def _edge(entry: Entry, outcome: dict[str, Any]) -> dict[str, str]:
    """Name the chosen numbers that lie at an end of where the search looked."""
    found: dict[str, str] = {}
    if len(outcome.get("trials", ())) <= FEW:
        return found
    for name, value in outcome["chosen"]["settings"].items():
        space = METHODS[entry.method].space.get(name)
        tried = [trial["settings"][name] for trial in outcome["trials"]]
        ends = space.values if isinstance(space, Choice) else tried
        if len(set(ends)) > 2 and all(type(each) in (int, float) for each in ends):
            if value in (min(ends), max(ends)):
                found[name] = "lowest" if value == min(ends) else "highest"
    return found


def expanded(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the outcomes of a file of either kind, each with its origin."""
    outcomes = {}
    for name, own in content["methods"].items():
        outcome = dict(own)
        if "made_with" in content:
            outcome["made_with"] = content["made_with"][outcome.get("made_with", 0)]
        if "settings" in outcome:
            outcome["chosen"] = {key: outcome.pop(key) for key in ("settings", "score")}
        outcomes[name] = outcome
    return outcomes


def outcomes_before(suite: QualitySuite, path: Path) -> dict[str, dict[str, Any]]:
    """Keep what an earlier call chose for other methods, if it searched alike."""
    if not path.exists():
        return {}
    content = yaml.safe_load(path.read_text())
    tuned = tuning_of(suite)
    bits = content.get("bits", [*suite.bits])  # older files searched all lengths
    same = (content["recipe"], content["trials"], content["seeds"], bits)
    if same != (suite.recipe, tuned.trials, [*tuned.seeds], [*tuned.bits]):
        return {}
    return expanded(content)


def text_of(suite: QualitySuite, content: dict[str, Any], scale: str | None = None) -> str:
    """Write a file of either kind.

    Args:
        suite: what was tuned.
        content: from `whole` or `small`.
        scale: of the suite, if it has a smaller form.
    """
    which = f" --dataset {suite.dataset}" if suite.one_of_several else ""
    name = suite.name
    if scale is not None:
        name = f"{name.removesuffix(f'-{scale}')} --scale {scale}"
    head = f"# Written by `python -m benchmarks tune --suite {name}{which}`"
    if "made_with" in content:
        place = record_file(suite, Store(Path("results")))
        head += f",\n# which keeps all trials in {place}"
    return f"{head}.\n{yaml.dump(content, Dumper=_Compact, sort_keys=False, width=10_000)}"


class _Compact(yaml.SafeDumper):
    """Block style outside, one line for each trial inside."""

    def represent_mapping(
        self, tag: str, mapping: Any, flow_style: bool | None = None
    ) -> yaml.MappingNode:
        items = dict(mapping)
        flat = not any(isinstance(value, dict | list) for value in items.values())
        own_line = {"settings", "refused", "git"} & items.keys()
        return super().represent_mapping(tag, items, flow_style=bool(own_line) or flat)

    def represent_sequence(
        self, tag: str, sequence: Any, flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        items = list(sequence)
        flat = not any(isinstance(value, dict | list) for value in items)
        return super().represent_sequence(tag, items, flow_style=flat)

    def ignore_aliases(self, data: Any) -> bool:
        return True
