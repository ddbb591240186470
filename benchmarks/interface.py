"""What a method is, and the decorator that registers one.

To add a method, write a function that takes a `Problem` and its own options, returns a
`Method`, and carries the decorator; then name it in a suite's YAML. The function may stand
in this repository (`methods`), in another package, or in a file (`plugins`).
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from .registry import Registry, check_known
from .search import Space


@dataclass(frozen=True)
class Problem:
    """What every method of a suite is given alike.

    Args:
        in_features: of the vectors that a method on raw features learns from.
        num_classes: or labels, if items have several.
        bits: wanted length of the code.
        epochs: passes over the training items.
        decay: share of the steps, at the end, over which the learning rate falls to 0.
        batch_size: training items at a time.
        multi_label: labels are multi-hot rows.
        width: of what the trunk makes of an item, which is what a head is given.
        trunk: makes vectors (B, width) of images; None for a small network on features.
        trunk_lr_factor: learning rate of the trunk relative to that of the head.
        device: where a network is trained; codes come back to the CPU.
    """

    in_features: int
    num_classes: int
    bits: int
    epochs: int
    decay: float
    batch_size: int
    multi_label: bool = False
    width: int = 256
    trunk: nn.Module | None = None
    trunk_lr_factor: float = 1.0
    device: str = "cpu"


class Unsuited(ValueError):
    """A method cannot work on this kind of data set; the message says why."""


@dataclass(frozen=True)
class Pair:
    """Items that are searched by inner product: what asks, and what is stored.

    Distances fit in: of |q - r|^2 the query is (2 q, -1) and the item (r, |r|^2).

    Args:
        queries: of all items, as they ask (N, D).
        stored: of all items, as an index keeps them (N, D); None for their codes.
        bits: what an item takes in the index, side information included; None for the
            length of the code.
    """

    queries: Tensor
    stored: Tensor | None = None
    bits: int | None = None


Encoded = Tensor | Pair
ASYMMETRIC = ".asymmetric"  # ends the name of an encoding's real queries
NEIGHBOURS = 10  # of each query, by the features as they are


class Method(Protocol):
    """What the harness asks of a method. It seeds every generator before `fit`.

    A method may also have `diagnostics() -> dict[str, np.ndarray]`, asked after `fit`: what
    a report can show of its inside. It is stored beside the codes and never judged.

    Of images, `fit` and `encode` are given `Pictures`, for a trunk to be trained on.
    A method whose attribute `on_features` is true is given features of the untrained trunk.
    One whose attribute `uses_database` is true is also given, as `fit(..., database=...)`,
    the items that will be searched; nobody is told their labels. With a method
    `encode_training() -> dict[str, Encoded]` it says how training items are stored, if
    their labels are used for that. A method behind which others may stand has
    `train(features, labels)` and `embedding(items) -> Tensor`, vectors (N, D).
    """

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Learn from the training items; labels are None where the task has none."""

    def encode(self, features: Tensor) -> Mapping[str, Encoded]:
        """Return what the method makes of items, by name of the encoding (`ENCODINGS`).

        Codes (N, K) of -1 and +1; of "float" a real embedding (N, D), to be compared by its
        cosine; or a `Pair`. A pair called E + ".asymmetric" are real queries that ask the
        stored items of encoding E. What has another name than those of `ENCODINGS` are
        codes of any length: judged and stored like the others, but no line of a table.
        """

    def head_parameters(self) -> tuple[int, int]:
        """Count numbers of the head: while training, and as it is served."""


Factory = Callable[..., Method]


@dataclass(frozen=True)
class Encoding:
    """A kind of thing that a training yields.

    Args:
        label: how tables call it; {} is the label of the method.
        kind: "hamming" for codes compared by Hamming distance, "code" for others of about
            as many bits, "reference" for what takes more bits and is not ranked with them.
    """

    label: str
    kind: Literal["hamming", "code", "reference"] = "hamming"


# How a longer code gets short, see `methods.ingredients`
SHORTENED = {
    "graph_database": "merged by the database's graph",
    "graph_training": "merged by the training items' graph",
    "random_groups": "merged at random",
    "pruned": "pruned",
    "free_rotation": "rotated freely",
}
ENCODINGS = {
    "code": Encoding("{}"),
    "sign": Encoding("sign({})"),
    "float": Encoding("{}, float32", "reference"),
    "itq": Encoding("{} + ITQ"),
    "pca": Encoding("{} + PCA, sign"),
    "pca_rotated": Encoding("{} + PCA, rotated at random, sign"),
    "lsh": Encoding("{} + LSH"),
    "pq": Encoding("{} + PQ", "code"),
    "opq": Encoding("{} + OPQ", "code"),
    "rabitq": Encoding("{} + RaBitQ (64 bits more)", "reference"),
    "semantic": Encoding("{}, similar classes near"),
    "number": Encoding("{}, its number", "code"),
    "vector": Encoding("{}, a bit a label", "code"),
    **{
        f"{name}{end}": Encoding(f"{{}}, {label}{when}")
        for name, label in SHORTENED.items()
        for end, when in (("", ""), ("_begun", ", before training goes on"))
    },
}
# What a method does, and with what. Tables pair "nm" with "direct" and "reg" of one loss.
FAMILIES = {
    "direct": "the loss trains a head of the wanted width",
    "reg": "as direct, with regularizers that pull outputs to codes",
    "nm": "the loss trains a longer head, which NMLayer merges",
    "post": "the loss trains an embedding, which is quantized afterwards",
    "floats": "the features as they are: a reference, no code",
    "quantizer": "features, raw or whitened by labels, and an unsupervised quantizer",
    "supervised": "a shallow map that is fitted to labels",
    "class": "the code says no more than a predicted class",
    "adapted": "learned with the unlabelled items that will be searched",
    "unsupervised": "a network that is trained without labels",
    "control": "a variant that answers a question about one of these",
    "other": "none of these, such as a method from outside",
}


@dataclass(frozen=True)
class MethodEntry:
    """A registered method: how tables call it, what makes it, where its options lie.

    Args:
        label: in tables.
        factory: (problem, **options) -> Method.
        space: where tuning looks for options.
        encodings: what `encode` returns; the first one decides in tuning.
        options: all options and their default values; None to ask the factory.
        family: one of `FAMILIES`.
        loss: name of the base loss; None without one.
        source: hash of the file that registered it; None for methods of this repository.
    """

    label: str
    factory: Factory
    space: Mapping[str, Space]
    encodings: tuple[str, ...] = ("code",)
    options: Mapping[str, Any] | None = None
    family: str = "other"
    loss: str | None = None
    source: str | None = None

    @property
    def about(self) -> str:
        """One line: what its family does with a loss, or what its factory says."""
        function = getattr(self.factory, "func", self.factory)  # what a partial calls
        text = inspect.getdoc(function) if inspect.isfunction(function) else None
        if self.family in ("direct", "reg", "nm", "post"):
            text = f"{FAMILIES[self.family]}."
        line = text.splitlines()[0] if text else f"{self.label}."
        return line[0].upper() + line[1:]

    def defaults(self) -> dict[str, Any]:
        """Return the options of the factory and their default values."""
        if self.options is not None:
            return dict(self.options)
        parameters = list(inspect.signature(self.factory).parameters.values())[1:]
        return {p.name: p.default for p in parameters}

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Complete options by defaults; an unknown name is an error."""
        defaults = self.defaults()
        check_known(f"option of {self.label}", options, defaults)
        return {**defaults, **options}


METHODS: Registry[MethodEntry] = Registry("method")
_sources: list[str] = []  # of what is being registered; the last one counts


@contextmanager
def registering_from(source: str) -> Iterator[None]:
    """Note on all methods that are registered meanwhile where they come from."""
    _sources.append(source)
    try:
        yield
    finally:
        _sources.pop()


def method(
    name: str,
    label: str,
    encodings: Sequence[str] = ("code",),
    *,
    family: str = "other",
    loss: str | None = None,
    **space: Space,
) -> Callable[[Factory], Factory]:
    """Register a factory (problem, **options) -> Method.

    Args:
        name: in suites and on the command line.
        label: in tables.
        encodings: what `encode` returns; the first one decides in tuning.
        family: one of `FAMILIES`.
        loss: name of the base loss, if it has one.
        space: where tuning looks for each option it may choose; at most two besides the
            learning rate and the start of the network, so that equal numbers of trials
            are equal effort.
    """

    def register(factory: Factory) -> Factory:
        add_method(
            name,
            label,
            factory,
            space=space,
            encodings=encodings,
            family=family,
            loss=loss,
        )
        return factory

    return register


def add_method(
    name: str,
    label: str,
    factory: Factory,
    *,
    defaults: Mapping[str, Any] | None = None,
    space: Mapping[str, Space],
    encodings: Sequence[str] = ("code",),
    family: str = "other",
    loss: str | None = None,
) -> None:
    """Register one of many methods that a table makes; arguments as of `method`.

    Args:
        name: in suites and on the command line.
        label: in tables.
        factory: (problem, **options) -> Method.
        defaults: all options and their default values; None to ask the factory.
        space: where tuning looks.
        encodings: what `encode` returns.
        family: one of `FAMILIES`.
        loss: name of the base loss, if it has one.
    """
    check_known("encoding", encodings, ENCODINGS)
    check_known("family", [family], FAMILIES)
    source = _sources[-1] if _sources else None
    entry = MethodEntry(
        label, factory, space, tuple(encodings), defaults, family, loss, source
    )
    check_known(f"option of {name}", space, entry.defaults())
    METHODS.add(name, entry)
