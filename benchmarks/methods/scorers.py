"""Scorers by name, with a control that learns nothing."""

from collections.abc import Callable

import torch
from torch import Tensor

from pml_nmlayer.merging.graph import RedundancyGraph
from pml_nmlayer.merging.scorers import SCORERS, Scorer

from ..registry import check_known

STATIC = "static"


class Static(Scorer):
    """Control: neighbouring bits form groups of equal weights, whatever the graph says."""

    def group(
        self,
        graph: RedundancyGraph,
        out_bits: int,
        max_group: int,
        agreement: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Group bits 0, 1, ... in their order."""
        groups = torch.arange(graph.bits) * out_bits // graph.bits
        sizes = torch.bincount(groups, minlength=out_bits)
        return groups, 1 / sizes[groups].float()


def scorer_of(name: str | None, weighting: str | None) -> Scorer | None:
    """Make a scorer of the package, or the static control; None for the package's default.

    Raises:
        ValueError: an unknown name, or a weighting where the scorer has no choice.
    """
    if name is None:
        if weighting is not None:
            raise ValueError(f"weighting={weighting!r} needs a scorer that is named")
        return None
    known: dict[str, Callable[..., Scorer]] = {**SCORERS, STATIC: Static}
    check_known("scorer", [name], known)
    if weighting is None:
        return known[name]()
    if name in (STATIC, "prune", "codewords"):
        raise ValueError(
            f"scorer {name} has weights of its own; leave weighting={weighting!r} out"
        )
    return known[name](weighting=weighting)
