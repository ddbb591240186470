"""Options get the type and range that they say: one check of each kind."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any


def check_count(
    name: str, value: Any, *, least: int = 1, most: int | None = None, none: str = ""
) -> None:
    """Refuse what is not a whole number in a range.

    Args:
        name: of the option.
        value: what came. Booleans and floats are no counts, not even 2.0.
        least: smallest value.
        most: largest value; None for any.
        none: what None means, where None is allowed.

    Raises:
        TypeError: another type; ValueError: out of range.
    """
    if value is None and none:
        return
    wanted = f"{name} must be >= {least}"
    wanted += "" if most is None else f" and <= {most}"
    wanted += ", a whole number" + (f", or None for {none}" if none else "")
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{wanted}; got {value!r}")
    if int(value) < least or (most is not None and int(value) > most):
        raise ValueError(f"{wanted}; got {value}")


def check_number(
    name: str,
    value: Any,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
    unit: str = "",
) -> None:
    """Refuse what is not a finite number in a range.

    Args:
        name: of the option.
        value: what came; booleans are no numbers.
        least: smallest value, itself allowed.
        above: lower bound, itself not allowed.
        most: largest value, itself allowed.
        below: upper bound, itself not allowed.
        unit: what the number counts, for the message.

    Raises:
        TypeError: not a number; ValueError: NaN, infinite or out of range.
    """
    bounds = [(">=", least), (">", above), ("<=", most), ("<", below)]
    range_ = " and ".join(f"{sign} {b:g}" for sign, b in bounds if math.isfinite(b))
    wanted = f"{name} must be {range_ or 'a finite number'}{unit and ' ' + unit}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{wanted}, a number; got {value!r}")
    number = float(value)
    inside = least <= number <= most and above < number < below
    if not math.isfinite(number) or not inside:
        raise ValueError(f"{wanted}, got {value}")


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False.

    Args:
        name: of the option.
        value: what came.

    Raises:
        TypeError: anything else, such as 1 or "no".
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: Any, known: Sequence[Any]) -> None:
    """Refuse a value that is not one of a list.

    Args:
        name: of the option.
        value: what came.
        known: the values there are; the message lists them.

    Raises:
        ValueError: anything else.
    """
    same = [each for each in known if type(value) is type(each) and value == each]
    if not same:
        listed = ", ".join("None" if each is None else f"{each}" for each in known)
        raise ValueError(f"{name} must be one of {listed}; got {value!r}")
