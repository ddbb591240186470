"""Binary cross-entropy to fixed class centres."""

from typing import Any, Literal

from pytorch_metric_learning.utils import common_functions as c_f
from torch import Tensor
from torch.nn import functional as F

from ..classes.codebooks import majority, tie_bits_of
from .base_centre_loss import BaseCentreLoss
from .base_hashing_loss import LossDict, check_not_negative, check_preset, per_anchor

_LOG_2 = 0.6931471805599453


class CSQLoss(BaseCentreLoss):
    r"""Push every bit to that of the class centre (central similarity quantization).

    Formula:  L = mean over i, k of BCE(½(t_ik + 1), ½(c_ik + 1))
                  + λ mean over i, k of log cosh(|t_ik| - 1),   t = tanh u,
              where BCE(½(tanh u + 1), ½(c + 1)) = softplus(-2 c u), computed so.
              c_i = centre of the class of i; for several classes the sign of the sum of
              their centres, and in a tied bit the fixed random bit r_k of the loss.

    Args:
        num_classes: C. Class ids must lie in [0, C).
        embedding_size: code length K, in bits; any. With `head` the longest one.
        quantization_weight: λ >= 0, no unit.
        codebook: "auto", "hadamard", "maximin", or (C, K) centres of -1 and +1 of your
            own; see `pml_nmlayer.codebooks.make_codebook`.
        seed: of the codebook and of r.
        preset: "paper" sums the quantization over bits: K times the default.
        head: whose codewords are the centres of codes it has merged; see `BaseCentreLoss`.
        kwargs: PML's `reducer`, `embedding_regularizer`, `collect_stats`.

    Shapes:   embeddings (B, K) real, before tanh; labels (B,) or multi-hot (B, C).
    Returns:  scalar; first term in nats a bit. An item without any class has no first term.
              Outputs that have passed a tanh already work too, but u in [-1, 1] keeps the
              first term above softplus(-2) = 0.127.
    Raises:   ValueError: quantization_weight < 0, an unknown preset, a distance, a codebook
              or a head that does not fit, ref_emb, labels or widths that do not fit.
    Source:   Yuan et al., CVPR 2020, arXiv:1908.00347.
              Differs: the paper sums its quantization term, log cosh(|2h - 1| - 1) with
              h = ½(t + 1), over bits; ours is a mean, so λ = K λ_paper without the preset.
              The authors' code and ports of it use (|t| - 1)² instead, which near ±1 is
              twice as large.
              Any K, where they need a power of two. A tie rule that is drawn once and
              saved with the loss, since r decides half of the bits of two classes.

    Example:
        >>> import torch
        >>> loss = CSQLoss(num_classes=2, embedding_size=8, quantization_weight=0)
        >>> loss(torch.zeros(2, 8), torch.tensor([0, 1])).item()
        0.693...
    """

    tie_bits: Tensor

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        *,
        quantization_weight: float = 0.05,
        codebook: str | Tensor = "auto",
        seed: int = 0,
        preset: Literal["paper"] | None = None,
        head: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, embedding_size, codebook, seed, head, **kwargs)
        check_not_negative(quantization_weight=quantization_weight)
        check_preset(preset)
        self.sum_bits = preset == "paper"
        self.quantization_weight = quantization_weight
        # Another seed than the centres': a tie must not always fall to the same class.
        self.register_buffer("tie_bits", tie_bits_of(embedding_size, seed=seed + 1))
        self.add_to_recordable_attributes(
            list_of_names=["quantization_weight"],
            is_stat=False,
        )

    def class_losses(self, embeddings: Tensor, rows: Tensor) -> LossDict:
        """Return the two sub-losses, one value an item each."""
        centres = self._centres_of(rows, embeddings)
        nll = F.softplus(-2 * centres * embeddings).mean(1) * rows.amax(1)
        # log cosh x = |x| + softplus(-2 |x|) - log 2 does not overflow
        rest = 1 - embeddings.tanh().abs()
        log_cosh = rest + F.softplus(-2 * rest) - _LOG_2
        quantization = log_cosh.sum(1) if self.sum_bits else log_cosh.mean(1)
        return {
            "loss": per_anchor(nll),
            "quantization_loss": per_anchor(self.quantization_weight * quantization),
        }

    def _centres_of(self, rows: Tensor, embeddings: Tensor) -> Tensor:
        tie_bits = c_f.to_device(self.tie_bits, rows, dtype=rows.dtype)
        return majority(rows, self.centres(embeddings), tie_bits[: embeddings.shape[1]])

    def _sub_loss_names(self) -> list[str]:
        return ["loss", "quantization_loss"]
