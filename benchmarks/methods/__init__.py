"""Every method of the quality suites; importing this package registers them all."""

from . import metric_learning, hashing, classifier, shallow  # noqa: I001  (order of `list`)

__all__ = ["classifier", "hashing", "metric_learning", "shallow"]
