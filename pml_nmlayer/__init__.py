"""Supervised hashing for pytorch-metric-learning."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the estimator on first use: scikit-learn takes a while."""
    if name == "Hasher":
        from .hasher import Hasher

        return Hasher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
