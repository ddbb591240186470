"""Which PML losses work when the pairs are given and the labels are not."""

import torch
from pytorch_metric_learning.losses import BaseMetricLossFunction
from pytorch_metric_learning.reducers import ClassWeightedReducer

from .base_hashing_loss import BaseHashingLoss

# By name, as PML does in its own wrappers: which classes exist depends on its version.
_COMPARES_CLASS_IDS = {
    *("AngularLoss", "FastAPLoss", "InstanceLoss", "NCALoss", "NPairsLoss", "PNPLoss"),
    *("RankedListLoss", "SmoothAPLoss"),
}
_OWNS_CLASSES = {
    *("ArcFaceLoss", "CosFaceLoss", "LargeMarginSoftmaxLoss", "NormalizedSoftmaxLoss"),
    *("P2SGradLoss", "ProxyAnchorLoss", "ProxyNCALoss", "SoftTripleLoss"),
    *("SphereFaceLoss", "SubCenterArcFaceLoss"),
}
_TAKES_NO_LABELS = {"ManifoldLoss", "VICRegLoss"}
_REASONS = [
    (_OWNS_CLASSES, "owns a weight vector a class, which needs one class id an item"),
    (_COMPARES_CLASS_IDS, "compares class ids itself instead of using given pairs"),
    (_TAKES_NO_LABELS, "takes neither labels nor pairs"),
]
TRIPLETS_ONLY = {"HistogramLoss", "MarginLoss", "TripletMarginLoss"}
READS_PAIRS_ONLY_WITH_LABELS = {"DynamicSoftMarginLoss"}
TAKES_REFERENCES_FOR_ITEMS = {"ThresholdConsistentMarginLoss"}


def is_one_of(loss: torch.nn.Module, names: set[str]) -> bool:
    """Tell whether a loss is, or inherits from, a class of one of these names.

    Args:
        loss: a loss function.
        names: class names.
    """
    return any(base.__name__ in names for base in type(loss).__mro__)


def check_loss(loss: BaseMetricLossFunction) -> None:
    """Refuse a loss that cannot work on multi-hot labels or on pairs made from them.

    Args:
        loss: what a user wants to run on multi-hot labels.

    Raises:
        ValueError: not a single loss function, a wrapper, or a loss that needs one class
            id an item; the message names the loss and the reason.
    """
    name = type(loss).__name__
    if not isinstance(loss, BaseMetricLossFunction):
        raise ValueError(
            f"loss must be a single PML loss function, got {name}; put MultiLabelLoss "
            "inside MultipleLosses and HashCrossBatchMemory, not around them"
        )
    if isinstance(loss, BaseHashingLoss):
        return
    if isinstance(getattr(loss, "loss", None), BaseMetricLossFunction):
        raise ValueError(
            f"{name} is a wrapper itself; wrap its inner loss: {name}(MultiLabelLoss(...))"
        )
    for names, reason in _REASONS:
        if is_one_of(loss, names):
            raise ValueError(
                f"{name} {reason}; multi-hot labels need a loss on pairs or triplets, such "
                "as ContrastiveLoss or MultiSimilarityLoss, or a hashing loss of this "
                "package"
            )
    _check_settings(loss, name)


def _check_settings(loss: BaseMetricLossFunction, name: str) -> None:
    if is_one_of(loss, {"MarginLoss"}) and len(loss.beta) > 1:
        raise ValueError(f"{name} has a beta a class; build it without num_classes")
    if getattr(loss, "triplets_per_anchor", "all") is None:
        raise ValueError(f"{name} needs triplets_per_anchor 'all' or a number, got None")
    if any(isinstance(part, ClassWeightedReducer) for part in loss.modules()):
        raise ValueError(
            f"{name} has a ClassWeightedReducer, but an item of several classes has no "
            "one weight; use another reducer"
        )
