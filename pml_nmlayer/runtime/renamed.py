"""Arguments that have another name than in version 0.1, or take keywords only."""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed(**new_names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Take old names, and options by position, with a DeprecationWarning until 1.0.

    Args:
        new_names: old name = new name.

    Returns:
        A decorator.

    Example:
        >>> @renamed(q="query")
        ... def length(query, *, scale=1):
        ...     return scale * len(query)
        >>> length([1, 2], scale=3)
        6
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters.values()
        by_place = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        owner = function.__name__

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> R:
            late, args = args[len(by_place) :], args[: len(by_place)]
            if len(late) > len(options):
                raise TypeError(
                    f"{owner}() takes {len(by_place)} arguments by position, got "
                    f"{len(by_place) + len(late)}; its options go by name: "
                    f"{', '.join(options)}"
                )
            given = dict(zip(options, late, strict=False))
            if given:
                _warn(f"{owner}() takes {', '.join(given)} by name only")
            for old in new_names.keys() & kwargs.keys():
                _warn(f"{owner}() calls {old}= now {new_names[old]}=")
                given[new_names[old]] = kwargs.pop(old)
            twice = given.keys() & {*kwargs, *by_place[: len(args)]}
            if twice:
                raise TypeError(f"{owner}() got {', '.join(sorted(twice))} twice")
            return function(*args, **kwargs, **given)

        return wrapper

    return decorate


def _warn(what: str) -> None:
    warnings.warn(f"{what}; the old way leaves in 1.0", DeprecationWarning, stacklevel=3)


SIDES = {
    "q": "query",
    "r": "reference",
    "q_labels": "query_labels",
    "r_labels": "reference_labels",
}
"""How metrics called their two sides."""
