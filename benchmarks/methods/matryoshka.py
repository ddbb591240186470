"""Embeddings of which each prefix is trained, too: signs of a prefix are a code."""

from typing import Any

import torch
from torch import Tensor, nn

from ..interface import Encoded, Method, Problem, add_method
from ..training.learner import Learner, sign_and_float, starting
from .loss_table import START, START_SPACE, parts
from .metric_learning import WIDTH
from .pml_losses import PML

PREFIXES = (12, 24, 48, WIDTH)


class PrefixLoss(nn.Module):
    """The sum of a loss over prefixes of the embedding.

    Source:   Kusupati et al., NeurIPS 2022, arXiv:2205.13147.  Differs: a metric learning
              loss stands in the place of a classifier for each prefix.
    """

    def __init__(self, loss: nn.Module, prefixes: tuple[int, ...]) -> None:
        super().__init__()
        self.loss, self.prefixes = loss, prefixes

    def forward(self, embeddings: Tensor, labels: Tensor, tuples: Any = None) -> Tensor:
        parts = [self.loss(embeddings[:, :n], labels, tuples) for n in self.prefixes]
        return torch.stack(parts).sum()


def matryoshka(problem: Problem, **options: Any) -> Method:
    """Train all prefixes of 128 dimensions by SupCon, and take signs of the first K."""
    problem = starting(problem, options["start"])
    own = parts(PML["supcon"], problem, WIDTH, options)
    prefixes = tuple(sorted({*PREFIXES, problem.bits}))
    own["loss"] = PrefixLoss(own["loss"], prefixes)

    def prefix(outputs: Tensor) -> dict[str, Encoded]:
        both = sign_and_float(outputs[:, : problem.bits])
        return {name: values for name, values in both.items() if name != "float"}

    return Learner(problem, nn.Linear(problem.width, WIDTH), encoding=prefix, **own)


add_method(
    "matryoshka",
    "Matryoshka (SupCon)",
    matryoshka,
    defaults={**PML["supcon"].defaults, **START},
    space={**PML["supcon"].space, **START_SPACE},
    encodings=("sign",),
    family="post",
    loss="supcon",
)
