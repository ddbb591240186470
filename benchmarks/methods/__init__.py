"""Every method of the quality suites; importing this package registers them all."""

# isort: off
from ..interface import METHODS
from . import metric_learning, hashing, feature_codewords, classifier, shallow  # for `list`
# isort: on

__all__ = [
    "METHODS",
    "classifier",
    "feature_codewords",
    "hashing",
    "metric_learning",
    "shallow",
]
