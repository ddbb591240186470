"""Scorers by name."""

from collections.abc import Callable

from torch import Tensor

from .base import Scorer
from .codewords import Codewords
from .controls import Prune, Random
from .correlation import Correlation
from .drop_one import DropOne
from .function_scorer import FunctionScorer

SCORERS: dict[str, Callable[[], Scorer]] = {
    "correlation": Correlation,
    "drop_one": DropOne,
    "codewords": Codewords,
    "random": Random,
    "prune": Prune,
}


def make_scorer(scorer: "str | Scorer | Callable[[Tensor, Tensor], Tensor]") -> Scorer:
    """Find a scorer by name, take one as it is, or wrap a function.

    Args:
        scorer: a name of `SCORERS`, a `Scorer`, or a function of (codes, labels).

    Raises:
        ValueError: an unknown name.
        TypeError: something else.
    """
    if isinstance(scorer, str):
        if scorer not in SCORERS:
            raise ValueError(f"scorer must be one of {', '.join(SCORERS)}; got {scorer!r}")
        return SCORERS[scorer]()
    if isinstance(scorer, Scorer):
        return scorer
    if callable(scorer) and not isinstance(scorer, type):
        return FunctionScorer(scorer)
    raise TypeError(
        "scorer must be a name, a Scorer object or a function (codes, labels) -> (K, K); "
        f"got {scorer!r}"
    )
