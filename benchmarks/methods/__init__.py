"""Every method of the quality suites; importing this package registers them all."""

# isort: off
from ..interface import METHODS
from . import metric_learning, hashing, without_merging, classifier, shallow  # for `list`
from . import quantized
# isort: on

__all__ = [
    "METHODS",
    "classifier",
    "hashing",
    "metric_learning",
    "quantized",
    "shallow",
    "without_merging",
]
