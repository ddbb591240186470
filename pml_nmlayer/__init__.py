"""Hashing for pytorch-metric-learning: short binary codes, learned, judged and searched."""

import importlib
from typing import TYPE_CHECKING, Any

from .runtime import moved

__version__ = "0.2.0"

if TYPE_CHECKING:
    from .codes import binarize as binarize
    from .codes import pack_codes as pack_codes
    from .codes import unpack_codes as unpack_codes
    from .evaluation import HammingAccuracyCalculator as HammingAccuracyCalculator
    from .hasher import Hasher as Hasher
    from .hooks import ProgressiveMerging as ProgressiveMerging
    from .layers import NMLayer as NMLayer
    from .layers import ProgressiveHead as ProgressiveHead
    from .losses import NMLoss as NMLoss
    from .ranking import mean_average_precision as mean_average_precision
    from .retrieval import HashEncoder as HashEncoder
    from .retrieval import HashIndex as HashIndex

# Imported on first use: torch and faiss take seconds, and few scripts need all rooms.
_ROOMS = {
    "HammingAccuracyCalculator": "evaluation",
    "HashEncoder": "retrieval",
    "HashIndex": "retrieval",
    "Hasher": "hasher",
    "NMLayer": "layers",
    "NMLoss": "losses",
    "ProgressiveHead": "layers",
    "ProgressiveMerging": "hooks",
    "binarize": "codes",
    "mean_average_precision": "ranking",
    "pack_codes": "codes",
    "unpack_codes": "codes",
}
__all__ = [
    "HammingAccuracyCalculator",
    "HashEncoder",
    "HashIndex",
    "Hasher",
    "NMLayer",
    "NMLoss",
    "ProgressiveHead",
    "ProgressiveMerging",
    "binarize",
    "mean_average_precision",
    "pack_codes",
    "unpack_codes",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})


moved.install()
