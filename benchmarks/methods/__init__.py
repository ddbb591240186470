"""Every method of the quality suites; importing this package registers them all."""

# isort: off
from ..interface import METHODS
from . import metric_learning, hashing, without_merging, classifier, shallow  # for `list`
# isort: on

__all__ = [
    "METHODS",
    "classifier",
    "hashing",
    "metric_learning",
    "shallow",
    "without_merging",
]
