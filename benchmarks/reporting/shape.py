"""Does a value read from JSON look as expected? If not, say where."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CALLED = {dict: "a mapping", list: "a list", str: "a string", float: "a number"}


@dataclass(frozen=True)
class MapOf:
    """Any keys, and every value of this shape."""

    shape: Any


@dataclass(frozen=True)
class Maybe:
    """This shape, or null."""

    shape: Any


def check_shape(value: Any, shape: Any, where: str) -> None:
    """Compare a value with a shape.

    Args:
        value: as `json.loads` gives it.
        shape: a type; a dict of shapes, whose keys are all there is; `MapOf`; `Maybe`.
        where: the name of the value in a message.

    Raises:
        ValueError: it differs; the first difference is named.
    """
    if isinstance(shape, Maybe):
        if value is not None:
            check_shape(value, shape.shape, where)
        return
    if isinstance(shape, type):
        _check_type(value, shape, where)
        return
    _check_type(value, dict, where)
    if isinstance(shape, Mapping):
        if set(value) != set(shape):
            raise ValueError(f"{where} must have {sorted(shape)}, got {sorted(value)}")
        for key, part in shape.items():
            check_shape(value[key], part, f"{where}: {key}")
    else:
        for key, each in value.items():
            check_shape(each, shape.shape, f"{where}: {key}")


def _check_type(value: Any, kind: type, where: str) -> None:
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or isinstance(value, bool):
        called = _CALLED.get(kind, kind.__name__)
        raise ValueError(f"{where}: expected {called}, got {str(value)[:40]!r}")
