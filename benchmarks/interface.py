"""What a method is, and the decorator that registers one.

To add a method, write a function that takes a `Problem` and its own options, returns a
`Method`, and carries the decorator; then name it in a suite's YAML.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from .registry import Registry, check_known
from .search import Space


@dataclass(frozen=True)
class Problem:
    """What every method of a suite is given alike."""

    in_features: int
    num_classes: int
    bits: int
    epochs: int
    decay: float
    batch_size: int
    multi_label: bool = False


class Unsuited(ValueError):
    """A method cannot work on this kind of data set; the message says why."""


class Method(Protocol):
    """What the harness asks of a method. It seeds every generator before `fit`."""

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Learn from the training items."""

    def encode(self, features: Tensor) -> dict[str, Tensor]:
        """Return what the method makes of items, by name of the encoding (`ENCODINGS`).

        Codes (N, K) of -1 and +1; of "float" a real embedding (N, D), to be compared by its
        cosine.
        """

    def head_parameters(self) -> tuple[int, int]:
        """Count numbers of the head: while training, and as it is served."""


Factory = Callable[..., Method]
# What one training may yield, and how tables call it; {} is the label of the method.
ENCODINGS = {
    "code": "{}",
    "sign": "sign({})",
    "float": "{}, float32",
    "itq": "{} + ITQ",
    "pca": "{} + PCA, sign",
    "lsh": "{} + LSH",
}


@dataclass(frozen=True)
class MethodEntry:
    """A registered method: how tables call it, what makes it, where its options lie."""

    label: str
    factory: Factory
    space: Mapping[str, Space]
    encodings: tuple[str, ...] = ("code",)

    def defaults(self) -> dict[str, Any]:
        """Return the options of the factory and their default values."""
        parameters = list(inspect.signature(self.factory).parameters.values())[1:]
        return {p.name: p.default for p in parameters}

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Complete options by defaults; an unknown name is an error."""
        defaults = self.defaults()
        check_known(f"option of {self.label}", options, defaults)
        return {**defaults, **options}


METHODS: Registry[MethodEntry] = Registry("method")


def method(
    name: str, label: str, encodings: Sequence[str] = ("code",), **space: Space
) -> Callable[[Factory], Factory]:
    """Register a factory (problem, **options) -> Method.

    Args:
        name: in suites and on the command line.
        label: in tables.
        encodings: what `encode` returns; the first one decides in tuning.
        space: where tuning looks for each option it may choose; at most two besides the
            learning rate, so that equal numbers of trials are equal effort.
    """

    def register(factory: Factory) -> Factory:
        check_known("encoding", encodings, ENCODINGS)
        entry = MethodEntry(label, factory, space, tuple(encodings))
        check_known(f"option of {name}", space, entry.defaults())
        METHODS.add(name, entry)
        return factory

    return register
