"""Suites: what is run is said in YAML, one file a suite."""

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from . import methods as _register_all_methods  # noqa: F401
from .datasets import parse
from .interface import ENCODINGS, METHODS
from .registry import check_known
from .results import file_name
from .trunks import MLP, TRUNKS, default_lr_factor

CONFIGS = Path(__file__).parent / "configs"
S = TypeVar("S")


@dataclass(frozen=True)
class Entry:
    """A method as a suite uses it: its name in the suite, and options that are fixed.

    `encodings` are those of the method's that tables show.
    """

    name: str
    method: str
    label: str
    options: dict[str, Any]
    encodings: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One line of a table: one encoding of an entry."""

    entry: Entry
    encoding: str

    @property
    def name(self) -> str:
        """Short and unique in a suite."""
        first = METHODS[self.entry.method].encodings[0]
        end = "" if self.encoding == first else f".{self.encoding}"
        return f"{self.entry.name}{end}"

    @property
    def label(self) -> str:
        """How tables call it."""
        return ENCODINGS[self.encoding].format(self.entry.label)


@dataclass(frozen=True)
class Tuning:
    """The same search for every method; `seeds` are no seeds of a report.

    `bits` are the lengths that it covers; in a file they may be left out, for all.
    """

    trials: int
    seeds: tuple[int, ...]
    bits: tuple[int, ...]


@dataclass(frozen=True)
class Tuned:
    """The outcome of a search: settings by method, and where they stand."""

    source: str
    settings: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class QualitySuite:
    """Methods compared by what their codes retrieve from one data set.

    A file that names several data sets is as many suites of one name.
    """

    name: str
    dataset: str
    bits: tuple[int, ...]
    seeds: tuple[int, ...]
    epochs: int
    decay: float  # share of the steps, at the end, over which the learning rate falls to 0
    batch_size: int
    timeout_s: float
    entries: tuple[Entry, ...]
    tuning: Tuning | None
    tuned: Tuned | None
    one_of_several: bool  # data sets of one file
    settings_file: Path  # where `tune` leaves its choices
    trunk: str = MLP  # or one of `TRUNKS`, which is trained on images
    weights: str | None = None  # see `load_trunk`
    trunk_lr_factor: float | None = None  # learning rate relative to that of the head
    augment: bool = False  # training images are cut and mirrored at random
    head_parameters: int | None = None  # most numbers of a head while training

    @property
    def recipe(self) -> dict[str, Any]:
        """What tuned settings depend on, and what all methods of the suite share."""
        return {
            "dataset": self.dataset,
            "epochs": self.epochs,
            "decay": self.decay,
            "batch_size": self.batch_size,
            **self.trunk_recipe,
            **self.bound,
        }

    @property
    def bound(self) -> dict[str, int]:
        """The bound on heads; nothing where there is none."""
        most = self.head_parameters
        return {} if most is None else {"head_parameters": most}

    @property
    def trunk_recipe(self) -> dict[str, Any]:
        """What results from images depend on; nothing of the trunk that features have."""
        if self.trunk == MLP:
            return {}
        return {
            "trunk": self.trunk,
            "weights": self.weights,
            "trunk_lr_factor": self.trunk_lr_factor,
            "augment": self.augment,
        }

    @property
    def rows(self) -> tuple[Row, ...]:
        """The lines of its tables."""
        return tuple(Row(entry, name) for entry in self.entries for name in entry.encodings)

    def entry(self, name: str) -> Entry:
        return next(entry for entry in self.entries if entry.name == name)


@dataclass(frozen=True)
class KernelSuite:
    """Operations compared by time."""

    name: str
    repeats: int
    batch_size: int
    bits: int
    queries: int
    database: int
    classes: int
    timeout_s: float
    evaluation: dict[str, int] = field(default_factory=dict)  # sizes of evaluation/*


Suite = QualitySuite | KernelSuite


def suite_names() -> list[str]:
    """List the suites that have a file in `configs` (files of tuned settings aside)."""
    names = (path.stem for path in CONFIGS.glob("*.yml"))
    return sorted(name for name in names if not name.endswith("_tuned"))


def load_suites(
    name: str, with_tuned: bool = True, datasets: Sequence[str] | None = None
) -> tuple[Suite, ...]:
    """Read a suite: one for each data set that it names.

    Args:
        name: of a file in `configs`, or the path of any .yml file.
        with_tuned: read the tuned settings as well, if there are any.
        datasets: some of those in the file; None for all.

    Raises:
        ValueError: no such suite or data set, or a file that is not understood in full.
    """
    path = suite_path(name)
    content = dict(yaml.safe_load(path.read_text()))
    kind = content.pop("kind", None)
    check_known(f"kind of suite in {path.name}", [kind], ("quality", "kernels"))
    if kind == "kernels":
        if datasets is not None:
            raise ValueError(f"suite {path.stem} is about kernels and takes no --dataset")
        return (_build(KernelSuite, {"name": path.stem, **content}, path),)
    named = _datasets(content, path)
    check_known(f"dataset of {path.stem}", datasets or (), named)
    suites = []
    for dataset in (each for each in named if datasets is None or each in datasets):
        several = len(named) > 1
        suite = _quality_suite(dict(content), path, dataset, several)
        tuned = _tuned(suite) if with_tuned else None
        suites.append(replace(suite, tuned=tuned))
    return tuple(suites)


def load_suite(name: str, with_tuned: bool = True) -> Suite:
    """Read a suite that has one data set; see `load_suites`."""
    suites = load_suites(name, with_tuned)
    if len(suites) > 1:
        raise ValueError(f"suite {name} has {len(suites)} data sets; name one of them")
    return suites[0]


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


def suite_path(name: str) -> Path:
    """Tell where a suite is written: in `configs`, or where the name itself says."""
    if not name.endswith(".yml"):
        check_known("suite", [name], suite_names())
        return CONFIGS / f"{name}.yml"
    if not Path(name).is_file():
        raise ValueError(f"there is no suite file {name}")
    return Path(name)


def _quality_suite(
    content: dict[str, Any], path: Path, dataset: str, several: bool
) -> QualitySuite:
    methods = content.pop("methods", [])
    tuning = content.pop("tuning", None)
    bits = tuple(content.get("bits", ()))
    content |= {
        "name": path.stem,
        "dataset": dataset,
        "one_of_several": several,
        "settings_file": _tuned_path(path, dataset, several),
        "bits": bits,
        "seeds": tuple(content.get("seeds", ())),
        "entries": tuple(_entry(item, path) for item in methods),
        "tuning": None if tuning is None else _tuning(tuning, bits, path),
        "tuned": None,
    }
    suite = _with_trunk(_build(QualitySuite, content, path), path)
    names = [entry.name for entry in suite.entries]
    if len(set(names)) < len(names):
        raise ValueError(f"{path.name} names a method twice: {', '.join(names)}")
    if suite.tuning is not None:
        check_seeds(suite, suite.seeds)
    return suite


def _with_trunk(suite: QualitySuite, path: Path) -> QualitySuite:
    """Check what a suite says of its trunk, and complete it."""
    check_known(f"trunk in {path.name}", [suite.trunk], [MLP, *TRUNKS])
    if suite.trunk == MLP:
        given = [
            name
            for name in ("weights", "trunk_lr_factor", "augment")
            if getattr(suite, name) not in (None, False)
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


def check_seeds(suite: QualitySuite, seeds: Iterable[int]) -> None:
    """Refuse to report on seeds that served to tune."""
    shared = set(seeds) & set(suite.tuning.seeds if suite.tuning else ())
    if shared:
        raise ValueError(
            f"seeds {sorted(shared)} of {suite.name} served to tune it; report on others"
        )


def _entry(item: str | dict[str, Any], path: Path) -> Entry:
    if isinstance(item, str):
        item = {"name": item}
    item = {"method": item.get("name"), "options": {}, **item}
    method = METHODS[item["method"]]
    method.settings(item["options"])
    encodings = tuple(item.get("encodings", method.encodings))
    check_known(f"encoding of {item['name']}", encodings, method.encodings)
    content = {"label": method.label, **item, "encodings": encodings}
    return _build(Entry, content, path)


def _tuning(content: dict[str, Any], bits: tuple[int, ...], path: Path) -> Tuning:
    content = {"bits": bits, **content, "seeds": content.get("seeds", ())}
    check_known(f"bits of tuning in {path.name}", content["bits"], bits)
    lists = {name: tuple(content[name]) for name in ("bits", "seeds")}
    return _build(Tuning, {**content, **lists}, path)


def _tuned(suite: QualitySuite) -> Tuned | None:
    path = suite.settings_file
    if not path.exists():
        return None
    content = yaml.safe_load(path.read_text())
    if content["recipe"] != suite.recipe:
        raise ValueError(
            f"{path.name} was tuned with {content['recipe']}, but {suite.name} now says "
            f"{suite.recipe}; run `python -m benchmarks tune` again or remove the file"
        )
    settings = {
        name: outcome["chosen"]["settings"] if "chosen" in outcome else {}
        for name, outcome in content["methods"].items()
    }
    return Tuned(path.name, settings)


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


def narrow(
    suite: QualitySuite,
    methods: Sequence[str] | None = None,
    bits: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
) -> QualitySuite:
    """Restrict a suite to a choice of its methods and bits; any seeds may be asked for."""
    if methods is not None:
        check_known(f"method of {suite.name}", methods, [e.name for e in suite.entries])
        chosen = tuple(entry for entry in suite.entries if entry.name in methods)
        suite = replace(suite, entries=chosen)
    if bits is not None:
        check_known(f"bits of {suite.name}", bits, suite.bits)
        suite = replace(suite, bits=tuple(bits))
    if seeds is not None:
        check_seeds(suite, seeds)
        suite = replace(suite, seeds=tuple(seeds))
    return suite
