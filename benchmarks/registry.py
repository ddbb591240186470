"""Names and what they stand for; an unknown name says which ones are known."""

from collections.abc import ItemsView, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """A dictionary that refuses to forget and explains itself.

    Args:
        kind: what a name names, for messages ("method", "dataset").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> None:
        if name in self._items:
            raise ValueError(f"there is already a {self.kind} called {name!r}")
        self._items[name] = item

    def __getitem__(self, name: str) -> T:
        check_known(self.kind, [name], self._items)
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def items(self) -> ItemsView[str, T]:
        return self._items.items()

    def __len__(self) -> int:
        return len(self._items)


def check_known(kind: str, wanted: Iterable[object], known: Iterable[object]) -> None:
    """Raise ValueError naming the known values if one of `wanted` is not among them."""
    known = list(known)
    unknown = [value for value in wanted if value not in known]
    if unknown:
        raise ValueError(
            f"unknown {kind} {', '.join(map(repr, unknown))}; "
            f"known: {', '.join(map(str, known)) or 'none'}"
        )
