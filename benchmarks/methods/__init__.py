"""Every method of the quality suites; importing this package registers them all."""

from . import hashing, metric_learning, shallow

__all__ = ["hashing", "metric_learning", "shallow"]
