"""Bit-wise hinge to fixed class targets."""

from typing import Any, Literal

from torch import Tensor

from ..runtime.options import check_number
from .base_centre_loss import BaseCentreLoss
from .base_hashing_loss import LossDict, check_preset, per_anchor


class DPNLoss(BaseCentreLoss):
    r"""Push every output past a margin on the side its class asks for (polarized network).

    Formula:  L = mean over i, k of  (1 / n_i) Σ_c y_ic max(0, m - u_ik t_ck),
              n_i = number of classes of i,  t_c = target code of class c.

    Args:
        num_classes: C. Class ids must lie in [0, C).
        embedding_size: code length K, in bits; any. With `head` the longest one.
        margin: m > 0, in units of u.
        codebook: "auto", "hadamard", "maximin", or (C, K) targets of -1 and +1 of your
            own; see `pml_nmlayer.codebooks.make_codebook`.
        seed: of the codebook.
        preset: "paper" sums over bits: K times the default.
        head: whose codewords are the targets of codes it has merged; see `BaseCentreLoss`.
        kwargs: PML's `reducer`, `embedding_regularizer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before sign, best from a head without tanh, which
              would flatten the hinge; labels (B,) or multi-hot (B, C).
    Returns:  scalar, in units of u a bit. An item of several classes takes the mean of
              their hinges; one without any class counts 0.
    Raises:   ValueError: margin <= 0, an unknown preset, a distance, a codebook or a head
              that does not fit, ref_emb, labels or widths that do not fit.
    Source:   Fan et al., IJCAI 2020 (Deep Polarized Network).
              Differs: a mean over bits, so that the learning rate does not depend on K;
              the authors' code adds the hinges of several classes up, which is n_i times
              ours. Targets are fixed: no ternary codes, no update during training.

    Example:
        >>> import torch
        >>> loss = DPNLoss(num_classes=2, embedding_size=8)
        >>> loss(torch.zeros(2, 8), torch.tensor([0, 1])).item()
        1.0
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        *,
        margin: float = 1.0,
        codebook: str | Tensor = "auto",
        seed: int = 0,
        preset: Literal["paper"] | None = None,
        head: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, embedding_size, codebook, seed, head, **kwargs)
        check_number("margin", margin, above=0)
        check_preset(preset)
        self.margin = margin
        self.sum_bits = preset == "paper"
        self.add_to_recordable_attributes(list_of_names=["margin"], is_stat=False)

    def class_losses(self, embeddings: Tensor, rows: Tensor) -> LossDict:
        """Return the hinges, one value an item."""
        # A bit knows two hinges only, so the classes need not be gone through one by one:
        # each hinge weighs the share of the item's classes that ask for +1 or for -1.
        shares = rows / rows.sum(1, keepdim=True).clamp(min=1)
        has_class, mean_target = (
            shares.sum(1, keepdim=True),
            shares @ self.centres(embeddings),
        )
        hinges = 0.5 * (
            (has_class + mean_target) * (self.margin - embeddings).relu()
            + (has_class - mean_target) * (self.margin + embeddings).relu()
        )
        return {"loss": per_anchor(hinges.sum(1) if self.sum_bits else hinges.mean(1))}
