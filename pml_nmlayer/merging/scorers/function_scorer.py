"""A function of codes and labels as a scorer."""

from collections.abc import Callable

from torch import Tensor

from ..graph import RedundancyGraph
from .base import Measurement, Scorer


class FunctionScorer(Scorer):
    """Merge along the running mean of what a function measures.

    Args:
        function: (codes (B, K) of -1 and +1, labels) -> redundancies (K, K).
        every_n_steps: see `Scorer`; here every step by default.
        max_items: see `Scorer`.
    """

    needs_labels = True

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        *,
        every_n_steps: int = 1,
        max_items: int | None = None,
    ) -> None:
        super().__init__(
            weighting="equal", every_n_steps=every_n_steps, max_items=max_items
        )
        self.function = function

    def measure(self, codes: Tensor, labels: Tensor | None) -> Measurement:
        """Call the function and check what it returns."""
        assert labels is not None
        redundancy = self.function(codes, labels)
        bits = codes.shape[1]
        if redundancy.shape != (bits, bits):
            raise ValueError(
                f"a scorer function must return shape ({bits}, {bits}), got "
                f"{tuple(redundancy.shape)}"
            )
        return Measurement(redundancy=redundancy)

    def edges(self, graph: RedundancyGraph, out_bits: int) -> tuple[Tensor, None]:
        """Strengths as measured, made symmetric."""
        return 0.5 * (graph.redundancy + graph.redundancy.T), None
