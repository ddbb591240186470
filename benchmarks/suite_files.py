"""Suites are written in YAML, one file a suite: reading and checking them."""

from collections.abc import Collection, Sequence
from dataclasses import MISSING, fields, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import yaml

from .datasets import parse
from .interface import FAMILIES
from .methods import METHODS
from .methods.metric_learning import EMBEDDERS
from .registry import check_known
from .results import file_name
from .suites import (
    FILES,
    MEMORY,
    Entry,
    KernelSuite,
    QualitySuite,
    Suite,
    Tuned,
    Tuning,
    check_seeds,
)
from .training.trunks import MLP, TRUNKS, default_lr_factor

CONFIGS = Path(__file__).parent / "configs"
RESULTS = Path("results")
# Families whose methods learn from vectors as they are: these may stand behind another.
_ON_VECTORS = ("floats", "quantizer", "supervised", "class", "adapted")
S = TypeVar("S")


def suite_names() -> list[str]:
    """List the suites that have a file in `configs` (files of tuned settings aside)."""
    names = (path.stem for path in CONFIGS.glob("*.yml"))
    return sorted(name for name in names if not name.endswith("_tuned"))


def about_suite(name: str) -> str:
    """Say what a suite is for: the comment that its file begins with."""
    lines = suite_path(name).read_text().splitlines()
    return " ".join(line[1:].strip() for line in takewhile(_is_comment, lines))


def _is_comment(line: str) -> bool:
    return line.startswith("#")


def load_suites(
    name: str,
    with_tuned: bool = True,
    datasets: Sequence[str] | None = None,
    results: Path = RESULTS,
    scale: str | None = None,
) -> tuple[Suite, ...]:
    """Read a suite: one for each data set.

    Args:
        name: of a file in `configs`, or the path of any .yml file.
        with_tuned: read the tuned settings as well, if there are any.
        datasets: any, by name; None for those in the file. Another one than those has
            tuned settings of its own, or none.
        results: the results folder. There lie settings that are a user's own: of other
            data sets than a suite of ours names, and all that an installed package finds.
        scale: one of those that the file names under `scales`; None for the whole suite.

    Raises:
        ValueError: no such suite or data set, or a file that is not understood in full.
    """
    path = suite_path(name)
    content = dict(yaml.safe_load(path.read_text()))
    kind = content.pop("kind", None)
    content, path = _scaled(content, path, scale)
    check_known(f"kind of suite in {path.name}", [kind], ("quality", "kernels"))
    if kind == "kernels":
        if datasets is not None:
            raise ValueError(f"suite {path.stem} is about kernels and takes no --dataset")
        return (_build(KernelSuite, {"name": path.stem, **content}, path),)
    named = _datasets(content, path)
    asked = named if datasets is None else datasets
    others = [each for each in dict.fromkeys(asked) if each not in named]
    for dataset in others:
        parse(dataset)
    suites = []
    for dataset in [*(each for each in named if each in asked), *others]:
        several = len(named) > 1 or dataset in others
        beside = _tuned_path(path, dataset, several)
        place = _settings_file(path, beside, results, dataset, dataset in named)
        suite = _quality_suite(dict(content), path, dataset, several, place)
        tuned = _tuned(suite, beside) if with_tuned else None
        suites.append(replace(suite, tuned=tuned))
    return tuple(suites)


def load_suite(name: str, with_tuned: bool = True) -> Suite:
    """Read a suite that has one data set; see `load_suites`."""
    suites = load_suites(name, with_tuned)
    if len(suites) > 1:
        raise ValueError(f"suite {name} has {len(suites)} data sets; name one of them")
    return suites[0]


def _scaled(
    content: dict[str, Any], path: Path, scale: str | None
) -> tuple[dict[str, Any], Path]:
    """Take out `scales: {NAME: {...}}`, and lay one of them over the file.

    What it says goes before what the file says; `methods` are names of methods of the file.
    The suite is then called FILE-NAME.
    """
    scales = content.pop("scales", {})
    if scale is None:
        return content, path
    check_known(f"scale of {path.name}", [scale], scales)
    own = dict(scales[scale])
    if "datasets" in own:
        content.pop("dataset", None)
    if "methods" in own:
        items = [{"name": m} if isinstance(m, str) else m for m in content["methods"]]
        known = {item["name"]: item for item in items}
        check_known(f"method of scale {scale} in {path.name}", own["methods"], known)
        own["methods"] = [known[name] for name in own["methods"]]
    return {**content, **own}, path.with_stem(f"{path.stem}-{scale}")


def _datasets(content: dict[str, Any], path: Path) -> list[str]:
    """Take out the data sets of a file: `datasets: [...]`, or one as `dataset: ...`."""
    given = [content.pop(key) for key in ("dataset", "datasets") if key in content]
    if len(given) != 1:
        raise ValueError(f"{path.name} lacks dataset; say either dataset or datasets")
    names = [given[0]] if isinstance(given[0], str) else list(given[0])
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{path.name} must name data sets, each once; got {names}")
    for name in names:
        parse(name, f"dataset in {path.name}")
    return names


def _tuned_path(path: Path, dataset: str, several: bool) -> Path:
    middle = f"_{file_name(dataset)}" if several else ""
    return path.with_name(f"{path.stem}{middle}_tuned.yml")


def _settings_file(
    path: Path, beside: Path, results: Path, dataset: str, named: bool
) -> Path:
    """Tell where a search leaves its choices: never in an installed package."""
    ours = path.parent == CONFIGS
    is_clone = (CONFIGS.parents[1] / "pyproject.toml").is_file()
    if not ours or (is_clone and (named or beside.exists())):
        return beside
    return results / path.stem / file_name(dataset) / "tuned.yml"


def suite_path(name: str) -> Path:
    """Tell where a suite is written: in `configs`, or where the name itself says."""
    if not name.endswith(".yml"):
        check_known("suite", [name], suite_names())
        return CONFIGS / f"{name}.yml"
    if not Path(name).is_file():
        raise ValueError(f"there is no suite file {name}")
    return Path(name)


def _quality_suite(
    content: dict[str, Any],
    path: Path,
    dataset: str,
    several: bool,
    settings_file: Path,
) -> QualitySuite:
    methods = content.pop("methods", [])
    tuning = content.pop("tuning", None)
    bits = tuple(content.get("bits", ()))
    content |= {
        "name": path.stem,
        "dataset": dataset,
        "one_of_several": several,
        "settings_file": settings_file,
        "bits": bits,
        "seeds": tuple(content.get("seeds", ())),
        "entries": tuple(_entry(item, path) for item in methods),
        "tuning": None if tuning is None else _tuning(tuning, bits, path),
        "tuned": None,
    }
    suite = _with_trunk(_build(QualitySuite, content, path), path)
    if suite.settings_of is not None:
        check_known(f"settings_of in {path.name}", [suite.settings_of], suite_names())
    names = [entry.name for entry in suite.entries]
    if len(set(names)) < len(names):
        raise ValueError(f"{path.name} names a method twice: {', '.join(names)}")
    if suite.tuning is not None:
        check_seeds(suite, suite.seeds)
    return suite


def _with_trunk(suite: QualitySuite, path: Path) -> QualitySuite:
    """Check what a suite says of its trunk, and complete it."""
    check_known(f"trunk in {path.name}", [suite.trunk], [MLP, *TRUNKS])
    check_known(f"loader in {path.name}", [suite.loader], [FILES, MEMORY])
    for name, least in (("image_size", 8), ("most_items", 1)):
        value = getattr(suite, name)
        if value is not None and (type(value) is not int or value < least):
            raise ValueError(
                f"{name} in {path.name} must be a whole number of at least {least}, got "
                f"{value!r}"
            )
    if suite.image_size is not None and suite.loader != MEMORY:
        raise ValueError(
            f"image_size in {path.name} is for `loader: {MEMORY}`; say that or leave it"
        )
    if suite.trunk == MLP:
        given = [
            name
            for name in ("weights", "trunk_lr_factor", "augment", "loader")
            if getattr(suite, name) not in (None, False, FILES)
        ]
        if given:
            raise ValueError(
                f"{path.name} says {', '.join(given)}, which is for a trunk on images; say "
                f"`trunk:` ({', '.join(TRUNKS)}) as well, or leave it out"
            )
        return suite
    factor = suite.trunk_lr_factor
    if factor is None:
        factor = default_lr_factor(suite.trunk, suite.weights)
    if factor < 0:
        raise ValueError(f"trunk_lr_factor in {path.name} must be at least 0, got {factor}")
    return replace(suite, trunk_lr_factor=factor)


def _entry(item: str | dict[str, Any], path: Path) -> Entry:
    if isinstance(item, str):
        item = {"name": item}
    item = {"method": item.get("name"), "options": {}, **item}
    method = METHODS[item["method"]]
    method.settings(item["options"])
    encodings = tuple(item.get("encodings", method.encodings))
    check_known(f"encoding of {item['name']}", encodings, method.encodings)
    family = method.family if item["name"] == item["method"] else "control"
    content = {"label": method.label, "family": family, **item, "encodings": encodings}
    check_known(f"family of {item['name']} in {path.name}", [content["family"]], FAMILIES)
    entry = _build(Entry, content, path)
    if entry.behind is not None:
        check_known(f"behind of {entry.name} in {path.name}", [entry.behind], EMBEDDERS)
        if method.family not in _ON_VECTORS or entry.method in EMBEDDERS:
            raise ValueError(
                f"{entry.name} in {path.name} trains a network of its own; only methods on "
                f"vectors stand behind {entry.behind}"
            )
    if entry.epochs is not None and (not isinstance(entry.epochs, int) or entry.epochs < 1):
        raise ValueError(
            f"epochs of {entry.name} in {path.name} must be a whole number of at least 1, "
            f"got {entry.epochs!r}"
        )
    return entry


def _tuning(content: dict[str, Any], bits: tuple[int, ...], path: Path) -> Tuning:
    content = {"bits": bits, **content, "seeds": content.get("seeds", ())}
    check_known(f"bits of tuning in {path.name}", content["bits"], bits)
    lists = {name: tuple(content[name]) for name in ("bits", "seeds")}
    return _build(Tuning, {**content, **lists}, path)


def _tuned(suite: QualitySuite, beside: Path) -> Tuned | None:
    """Read what comes with a suite; what was chosen here goes before it."""
    found = None
    lent = () if suite.settings_of is None else (_lent_path(suite),)
    for path in dict.fromkeys((beside, suite.settings_file, *lent)):
        if path.exists():
            own = _tuned_file(suite, path)
            before = Tuned("", {}) if found is None else found
            found = Tuned(
                own.source,
                {**before.settings, **own.settings},
                {**_without(before.edges, own.settings), **own.edges},
            )
    return found


def _lent_path(suite: QualitySuite) -> Path:
    """Tell where another suite keeps what it chose on its own protocol of the same set."""
    other = CONFIGS / f"{suite.settings_of}.yml"
    source = suite.dataset.rpartition(":")[0]
    return _tuned_path(other, f"{source}:{suite.settings_of}", True)


def _without(items: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: item for name, item in items.items() if name not in names}


def _tuned_file(suite: QualitySuite, path: Path) -> Tuned:
    content = yaml.safe_load(path.read_text())
    wanted = dict(suite.recipe)
    if suite.settings_of is not None and path == _lent_path(suite):
        wanted["dataset"] = content["recipe"]["dataset"]
    if content["recipe"] != wanted:
        raise ValueError(
            f"{path.name} was tuned with {content['recipe']}, but {suite.name} now says "
            f"{suite.recipe}; run `python -m benchmarks tune` again or remove the file"
        )
    for entry in suite.entries:
        outcome = content["methods"].get(entry.name, {"refused": "never tuned"})
        if "refused" not in outcome and outcome.get("epochs") != entry.epochs:
            searched, now = (
                suite.epochs if each is None else each
                for each in (outcome.get("epochs"), entry.epochs)
            )
            raise ValueError(
                f"{path.name} has settings of {entry.name} for {searched} epochs, but "
                f"{suite.name} now gives it {now}; run `python -m benchmarks tune` again"
            )
    settings = {
        name: outcome.get("chosen", outcome).get("settings", {})
        for name, outcome in content["methods"].items()
    }
    edges = {
        name: outcome["edge"]
        for name, outcome in content["methods"].items()
        if "edge" in outcome
    }
    return Tuned(path.name, settings, edges)


def _build(kind: type[S], content: dict[str, Any], path: Path) -> S:
    all_fields = fields(kind)  # type: ignore[arg-type]
    check_known(f"key in {path.name}", content, [item.name for item in all_fields])
    needed = [
        item.name
        for item in all_fields
        if item.default_factory is MISSING and item.default is MISSING
    ]
    missing = [name for name in needed if name not in content]
    if missing:
        raise ValueError(f"{path.name} lacks {', '.join(missing)}")
    return kind(**content)
