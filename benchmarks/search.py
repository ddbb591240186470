"""Where a random search looks. Draws are spread out, so that no method is just unlucky."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Space(Protocol):
    """The values that one option may take."""

    def draw(self, rng: np.random.Generator, count: int) -> list[Any]:
        """Draw values, plain Python objects in random order."""


@dataclass(frozen=True)
class LogUniform:
    """Numbers between two bounds, uniform in the logarithm; three digits are kept.

    The logarithmic range is cut into as many equal strata as there are draws, with one
    draw in each (Latin hypercube sampling: McKay, Beckman, Conover, Technometrics 1979).
    """

    low: float
    high: float

    def draw(self, rng: np.random.Generator, count: int) -> list[float]:
        places = (rng.permutation(count) + rng.uniform(size=count)) / count
        values = self.low * np.exp(places * math.log(self.high / self.low))
        return [float(f"{value:.3g}") for value in values]


class Choice:
    """A few values, each drawn equally often as far as the count divides."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def draw(self, rng: np.random.Generator, count: int) -> list[Any]:
        repeats = -(-count // len(self.values))
        order = [i for _ in range(repeats) for i in rng.permutation(len(self.values))]
        return [self.values[i] for i in order[:count]]
