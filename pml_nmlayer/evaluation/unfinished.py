"""Testers that say when they judge a head whose merges are not done."""

import functools
import sys
from typing import Any

from pytorch_metric_learning.testers import BaseTester
from pytorch_metric_learning.trainers import BaseTrainer
from torch import Tensor, nn

from ..heads.unfinished import merges_expected, warn_if_unfinished


@functools.cache
def watching(tester: type[BaseTester]) -> type[BaseTester]:
    """Make a tester class that warns of an unfinished head, under the same name.

    Evaluations within a training of PML whose head is merged by `ProgressiveMerging` are as
    they should be, and say nothing.

    Args:
        tester: a PML tester class.
    """
    names = {"__doc__": tester.__doc__, "__module__": tester.__module__}
    return type(tester.__name__, (_Watching, tester), names)


class _Watching:
    def compute_all_embeddings(
        self, dataloader: Any, trunk_model: nn.Module, embedder_model: nn.Module
    ) -> tuple[Tensor, Tensor]:
        if not (merges_expected(embedder_model) and _in_training()):
            warn_if_unfinished(embedder_model, "judged by a tester")
        arguments = dataloader, trunk_model, embedder_model
        return super().compute_all_embeddings(*arguments)  # type: ignore[misc]


def _in_training() -> bool:
    """Tell whether a PML trainer is at work, which tells nobody but the call stack."""
    train = BaseTrainer.train.__code__
    frame = sys._getframe()
    while frame is not None and frame.f_code is not train:
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None
