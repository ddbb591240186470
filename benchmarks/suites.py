"""What a suite is: methods compared on one data set, or operations compared by time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .interface import ENCODINGS
from .methods import METHODS
from .registry import check_known
from .training.trunks import MLP

FILES, MEMORY = "files", "memory"  # where images are while a trunk trains on them
EVALUATION = "evaluation/"  # begins the name of a kernel on a whole database
MILLION = "million/"  # of a kernel on a million items


@dataclass(frozen=True)
class Entry:
    """A method as a suite uses it: its name in the suite, and options that are fixed.

    `encodings` are those of the method's that tables show; `epochs` are None for those of
    the suite. `family` is one of `FAMILIES`: in a file that of the method, and of a variant
    "control", unless the file says otherwise. With `behind` items are vectors that the
    network of another method makes; one training serves all lengths and entries.
    """

    name: str
    method: str
    label: str
    options: dict[str, Any]
    encodings: tuple[str, ...]
    epochs: int | None = None
    family: str = "other"
    behind: str | None = None  # method whose embedding this one is given

    @property
    def loss(self) -> str | None:
        """The name of its base loss, if it has one."""
        return METHODS[self.method].loss


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
        return ENCODINGS[self.encoding].label.format(self.entry.label)

    @property
    def kind(self) -> str:
        """See `Encoding.kind`."""
        return ENCODINGS[self.encoding].kind


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
    """The outcome of a search: settings by method, and where they stand.

    `edges` says of numbers that lie at an end of where the search looked which end it is.
    """

    source: str
    settings: dict[str, dict[str, Any]]
    edges: dict[str, dict[str, str]] = field(default_factory=dict)


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
    weights: str | None = None  # see `trunks.load_trunk`
    trunk_lr_factor: float | None = None  # learning rate relative to that of the head
    augment: bool = False  # training images are cut and mirrored at random
    loader: str = FILES  # or MEMORY
    image_size: int | None = (
        None  # side that images in memory are cut to; None: the trunk's
    )
    most_items: int | None = None  # of a set; a fixed part of each class is kept
    head_parameters: int | None = None  # most numbers of a head while training
    settings_of: str | None = None  # suite whose choices hold until this one is tuned

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
            **({} if self.most_items is None else {"most_items": self.most_items}),
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
            **({} if self.loader == FILES else {"loader": self.loader}),
            **({} if self.image_size is None else {"image_size": self.image_size}),
        }

    @property
    def rows(self) -> tuple[Row, ...]:
        """The lines of its tables."""
        return tuple(Row(entry, name) for entry in self.entries for name in entry.encodings)

    def with_networks(self) -> "QualitySuite":
        """Add the networks behind which entries stand, as entries for a search to judge."""
        own = {entry.name for entry in self.entries}
        behind = dict.fromkeys(entry.behind for entry in self.entries if entry.behind)
        more = tuple(
            Entry(name, name, method.label, {}, method.encodings, family=method.family)
            for name, method in ((each, METHODS[each]) for each in behind)
            if name not in own
        )
        return replace(self, entries=more + self.entries)

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
    evaluation: dict[str, int] = field(default_factory=dict)  # sizes of `EVALUATION`
    million: dict[str, int] = field(default_factory=dict)  # sizes of `MILLION`


Suite = QualitySuite | KernelSuite


def check_seeds(suite: QualitySuite, seeds: Iterable[int]) -> None:
    """Refuse to report on seeds that served to tune."""
    shared = set(seeds) & set(suite.tuning.seeds if suite.tuning else ())
    if shared:
        raise ValueError(
            f"seeds {sorted(shared)} of {suite.name} served to tune it; report on others"
        )


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
