"""Several regularizers where PML takes one."""

from collections.abc import Sequence
from typing import Any

from pytorch_metric_learning.regularizers import BaseRegularizer
from torch import Tensor, nn

from ..runtime.options import check_number
from .base_bit_regularizer import BaseBitRegularizer


class WeightedSumRegularizer(BaseBitRegularizer):
    r"""Add up regularizers; a PML loss takes only one `embedding_regularizer`.

    Formula:  L = sum over m of λ_m R_m(u).

    Args:
        regularizers: of this package or of PML.
        weights: λ_m >= 0, one a regularizer; all 1 if None.
        kwargs: PML's `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign.
    Returns:  scalar; each summand is reduced by its own reducer first.
    Raises:   ValueError: no regularizer, one that is not PML's BaseRegularizer, another
              number of weights, a negative weight, embeddings not (B, K).
    Source:   convention of this package.  Differs: no counterpart in PML.

    Example:
        >>> import torch
        >>> from pml_nmlayer.regularizers import BitBalanceRegularizer
        >>> both = WeightedSumRegularizer([BitBalanceRegularizer()] * 2, weights=[1, 0.5])
        >>> both(torch.ones(4, 8)).item()
        1.5
    """

    def __init__(
        self,
        regularizers: Sequence[BaseRegularizer],
        weights: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not regularizers:
            raise ValueError("give at least one regularizer, got none")
        for regularizer in regularizers:
            if not isinstance(regularizer, BaseRegularizer):
                raise ValueError(
                    "regularizers must subclass pytorch_metric_learning.regularizers."
                    f"BaseRegularizer, got {type(regularizer).__name__}"
                )
        weights = [1.0] * len(regularizers) if weights is None else list(weights)
        for i, weight in enumerate(weights):
            check_number(f"weights[{i}]", weight)
        if len(weights) != len(regularizers) or any(weight < 0 for weight in weights):
            raise ValueError(
                f"weights must be {len(regularizers)} numbers >= 0, one a regularizer, "
                f"got {weights}"
            )
        # Named, since PML's record keeper makes tables of the names, and a ModuleList's
        # begin with a digit, which is no name in SQL.
        names = [f"term{i}" for i in range(len(regularizers))]
        self.regularizers = nn.ModuleDict(dict(zip(names, regularizers, strict=True)))
        self.weights = weights

    def compute_loss(self, embeddings: Tensor) -> dict[str, dict[str, Any]]:
        """Return the weighted sum."""
        terms = zip(self.weights, self.regularizers.values(), strict=True)
        return {
            "loss": {
                "losses": sum(weight * term(embeddings) for weight, term in terms),
                "indices": None,
                "reduction_type": "already_reduced",
            }
        }
