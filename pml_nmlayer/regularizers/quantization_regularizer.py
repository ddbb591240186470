"""Pull the outputs to ±1."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from pytorch_metric_learning.utils import common_functions as c_f
from torch import Tensor
from torch.nn import functional as F

from ..codes.convention import raw_sign
from .base_bit_regularizer import BaseBitRegularizer


def _log_cosh(r: Tensor) -> Tensor:
    # cosh itself overflows at r = 90 in float32
    return r.abs() + F.softplus(-2 * r.abs()) - math.log(2)


_PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": torch.abs,
    "l2": torch.square,
    "cubic": lambda r: r.abs() ** 3,
    "log_cosh": _log_cosh,
}


class QuantizationRegularizer(BaseBitRegularizer):
    r"""Penalise the distance of every output to its own sign.

    Formula:  L = mean over i, k of φ(r_ik),  r = u - sign u, so that |r| = ||u| - 1|;
              φ(r) = |r| ("l1"), r² ("l2"), |r|³ ("cubic"), log cosh r ("log_cosh").

    Args:
        kind: which φ.
        kwargs: PML's `reducer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign.
    Returns:  scalar >= 0, one value an item reduced by PML's reducer; 0 at ±1 codes.
    Raises:   ValueError: an unknown kind, embeddings not (B, K).
    Source:   "l1": Liu et al., CVPR 2016 (DSH). "l2": Li et al., IJCAI 2016 (DPSH).
              "cubic": Su et al., NeurIPS 2018 (GreedyHash). "log_cosh": Zhu et al.,
              AAAI 2016 (DHN).  Differs: means over items and bits where papers sum; at
              u = 0 the sign is +1, so an output never stands still between the targets.

    Example:
        >>> QuantizationRegularizer()(torch.tensor([[1.0, -0.5]])).item()
        0.125
    """

    def __init__(
        self, kind: Literal["l1", "l2", "cubic", "log_cosh"] = "l2", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if kind not in _PENALTIES:
            raise ValueError(f"kind must be one of {sorted(_PENALTIES)}, got {kind!r}")
        self.kind = kind

    def compute_loss(self, embeddings: Tensor) -> dict[str, dict[str, Any]]:
        """Return one value an item."""
        residual = embeddings - raw_sign(embeddings.detach())
        return {
            "loss": {
                "losses": _PENALTIES[self.kind](residual).mean(1),
                "indices": c_f.torch_arange_from_size(embeddings),
                "reduction_type": "element",
            }
        }
