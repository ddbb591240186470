"""Codes of this package that are learned with the unlabelled items to be searched."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pml_nmlayer.adaptation import fit_codes

from ..interface import Encoded, Method, Problem, method
from . import quantizers


class Adapted:
    """What `fit_codes` makes of labelled training items and the unlabelled database."""

    on_features = True
    uses_database = True

    def __init__(self, bits: int, seed: int, *, linear: bool) -> None:
        self.bits, self.seed, self.linear = bits, seed, linear

    def fit(self, features: Tensor, labels: Any, database: Any = None) -> None:
        """Learn from both; without labels from the database alone."""
        x, y = together(features, labels, database)
        self.module = fit_codes(
            x, y, bits=self.bits, random_state=self.seed, linear=self.linear
        ).module

    def encode(self, features: Tensor) -> Mapping[str, Encoded]:
        with torch.no_grad():
            return quantizers.both_sides("code", self.module(features))

    def head_parameters(self) -> tuple[int, int]:
        numbers = sum(each.numel() for each in self.module.state_dict().values())
        return numbers, numbers


def together(features: Tensor, labels: Any, database: Tensor) -> tuple[Tensor, Any]:
    """Join labelled training items and the unlabelled database; or take that alone."""
    if labels is None:
        return database, None
    unknown = torch.full((len(database), *labels.shape[1:]), -1)
    return torch.cat([features, database]), torch.cat([labels.long(), unknown])


@method("hasher", "Hasher", family="adapted")
def hasher(problem: Problem) -> Method:
    """Learn codes of labels and of the database's own neighbourhoods, as `Hasher` does."""
    return Adapted(problem.bits, seed_of_run(), linear=False)


@method("adapt", "adapt, one linear map", family="adapted")
def adapt(problem: Problem) -> Method:
    """Learn the same with one linear map, as `ProgressiveHead.adapt` does."""
    return Adapted(problem.bits, seed_of_run(), linear=True)


def seed_of_run() -> int:
    """Draw a seed from what the harness has seeded."""
    return int(torch.randint(2**31, ()))
