"""PML's trainers and testers on multi-hot labels."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from pytorch_metric_learning.miners import BaseMiner
from pytorch_metric_learning.testers import BaseTester
from pytorch_metric_learning.trainers import BaseTrainer
from pytorch_metric_learning.utils import common_functions as c_f
from torch import Tensor

from .evaluation import HammingAccuracyCalculator
from .labels.checks import check_labels
from .labels.label_sets import as_label_sets, check_miner

Cls = TypeVar("Cls", bound=type)

_WALKS_THROUGH_CLASSES = {
    "DeepAdversarialMetricLearning": "it draws its triplets class by class",
    "WithSameParentLabelTester": "its label columns are levels of a hierarchy",
}


@functools.cache
def multilabel(cls: Cls) -> Cls:
    r"""Turn a PML trainer or tester class into one for multi-hot labels.

    Trainer: whole rows (B, C) reach the losses, the miners compare rows by shared labels,
    and a classifier loss gets the rows as floats, as BCEWithLogitsLoss wants them. The
    metric loss must take such rows: a hashing loss of this package, or MultiLabelLoss.

    Tester: one evaluation by shared labels; metrics are called `<metric>_levelall`. The
    default `accuracy_calculator` is HammingAccuracyCalculator; PML's own needs a
    `label_comparison_fn`.

    Args:
        cls: a subclass of PML's BaseTrainer or BaseTester.

    Returns:
        A subclass with the same arguments. `label_hierarchy_level` may only be "all",
        its default here.

    Raises:
        ValueError: another class, or one that goes through the classes one by one. When
            built: another `label_hierarchy_level`, `set_min_label_to_zero`, a miner or
            calculator for class ids only. In a run: labels that are not (B, C) rows of
            0 and 1.

    Source:   pytorch-metric-learning, BaseTrainer and BaseTester.
              Differs: PML's defaults train and test on the first label alone.

    Example:
        >>> from pytorch_metric_learning.testers import GlobalEmbeddingSpaceTester
        >>> multilabel(GlobalEmbeddingSpaceTester).__name__
        'MultiLabelGlobalEmbeddingSpaceTester'
    """
    if not isinstance(cls, type):
        raise ValueError(f"multilabel takes a PML trainer or tester class, got {cls!r}")
    for base in cls.__mro__:
        if base.__name__ in _WALKS_THROUGH_CLASSES:
            raise ValueError(
                f"{cls.__name__} cannot work on multi-hot labels: "
                f"{_WALKS_THROUGH_CLASSES[base.__name__]}"
            )
    if issubclass(cls, BaseTrainer):
        adapter: type = _MultiLabelTrainer
    elif issubclass(cls, BaseTester):
        adapter = _MultiLabelTester
    else:
        raise ValueError(
            f"multilabel takes a PML trainer or tester class, got {cls.__name__}"
        )
    return type(f"MultiLabel{cls.__name__}", (adapter, cls), {"__doc__": cls.__doc__})  # type: ignore[return-value]


class _WholeRows:
    """Switch off everything by which PML cuts or changes rows of labels."""

    data_and_label_getter: Callable[[Any], Any]

    def __init__(
        self,
        *args: Any,
        label_hierarchy_level: str = "all",
        set_min_label_to_zero: bool = False,
        **kwargs: Any,
    ) -> None:
        if label_hierarchy_level != "all":
            raise ValueError(
                "multi-hot labels are used as whole rows: label_hierarchy_level must be "
                f"'all', got {label_hierarchy_level!r}"
            )
        if set_min_label_to_zero:
            raise ValueError(
                "set_min_label_to_zero would renumber the 0 and 1 of multi-hot labels; "
                "leave it False"
            )
        super().__init__(*args, label_hierarchy_level="all", **kwargs)  # type: ignore[call-arg]
        getter = self.data_and_label_getter
        self.data_and_label_getter = lambda batch: _checked(getter(batch))


class _MultiLabelTrainer(_WholeRows):
    mining_funcs: dict[str, BaseMiner]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for miner in self.mining_funcs.values():
            check_miner(miner)

    def maybe_mine_embeddings(self, embeddings: Any, labels: Tensor, *args: Any) -> Any:
        return super().maybe_mine_embeddings(embeddings, as_label_sets(labels), *args)  # type: ignore[misc]

    def maybe_get_classifier_loss(self, logits: Any, labels: Tensor, *args: Any) -> Any:
        # PML casts rows to integers, which neither BCE nor soft cross-entropy takes
        return super().maybe_get_classifier_loss(logits, labels.float(), *args)  # type: ignore[misc]


class _MultiLabelTester(_WholeRows):
    def initialize_accuracy_calculator(self) -> None:
        calculator = getattr(self, "accuracy_calculator", None)
        if calculator is None:
            self.accuracy_calculator = HammingAccuracyCalculator()
        elif isinstance(calculator, HammingAccuracyCalculator):
            return
        elif getattr(calculator, "label_comparison_fn", None) is torch.eq:
            raise ValueError(
                f"{type(calculator).__name__} compares class ids; use "
                "HammingAccuracyCalculator, or give it a label_comparison_fn such as "
                "lambda a, b: (a * b).sum(-1) > 0"
            )

    def label_levels_to_evaluate(self, query_labels: Tensor) -> list[slice]:
        return [slice(None)]  # labels[:, level] is then the rows themselves

    def label_hierarchy_level_to_str(self, label_hierarchy_level: Any) -> str:
        return "all"


def _checked(batch: Any) -> Any:
    labels = batch[-1]
    if c_f.is_list_or_tuple(labels):  # what the default collation makes of lists
        labels = np.stack([c_f.to_numpy(column) for column in labels], axis=1)
    rows = torch.as_tensor(labels)
    if rows.ndim != 2:
        raise ValueError(
            "labels must be multi-hot rows (B, C) of 0 and 1, got shape "
            f"{tuple(rows.shape)}; for class ids use PML's own class"
        )
    check_labels(rows, len(rows), read=True)
    return batch
