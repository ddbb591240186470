"""Supervised hashing for pytorch-metric-learning."""

__version__ = "0.1.0"
