"""One look for all progress bars of a fit."""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def shown(steps: Iterable[T], what: str, progress: bool) -> Iterable[T]:
    """Show a bar while steps are gone through.

    Args:
        steps: what is gone through.
        what: is done in them.
        progress: whether to show it.
    """
    if not progress:
        return steps
    from tqdm import tqdm

    return tqdm(steps, desc=what, leave=False)
