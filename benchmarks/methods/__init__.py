"""Every method of the quality suites; importing this package registers them all."""

# isort: off
from ..interface import METHODS
from . import metric_learning, hashing, without_merging, classifier, shallow  # for `list`
from . import (
    adapted,
    class_codes,
    ingredients,
    label_codes,
    matryoshka,
    quantized,
    supervised,
    unsupervised,
)
# isort: on

__all__ = [
    "METHODS",
    "adapted",
    "class_codes",
    "classifier",
    "hashing",
    "ingredients",
    "label_codes",
    "matryoshka",
    "metric_learning",
    "quantized",
    "shallow",
    "supervised",
    "unsupervised",
    "without_merging",
]
