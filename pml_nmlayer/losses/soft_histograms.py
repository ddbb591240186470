"""Histograms of Hamming distances that carry a gradient to the real outputs."""

import math

import torch
from torch import Tensor


def relaxed_codes(u: Tensor, sharpness: float, keep_codes: bool = True) -> Tensor:
    r"""Squash real outputs into [-1, 1] and leave codes as they are.

    Formula:  φ(u) = tanh(β u) / tanh(β) for |u| < 1, sign(u) for |u| >= 1; the gradient is
              that of tanh(β u) / tanh(β) everywhere.
              keep_codes=False: φ(u) = tanh(β u).

    Args:
        u: real outputs, or codes.
        sharpness: β > 0, slope at 0.
        keep_codes: -1 and +1 stay -1 and +1, exactly.

    Shapes:   u (...,) -> φ (...,), same dtype.
    Returns:  relaxed codes with a gradient that never dies out abruptly.
    Raises:   nothing.
    Source:   the tanh of Cakir et al., ICCV 2017, and He et al., CVPR 2018.
              Differs: scaled and cut, so that what is exact on codes stays exact.

    Example:
        >>> relaxed_codes(torch.tensor([-3.0, -1.0, 0.0, 1.0]), sharpness=2)
        tensor([-1., -1.,  0.,  1.])
    """
    squashed = torch.tanh(sharpness * u)
    if not keep_codes:
        return squashed
    squashed = squashed / math.tanh(sharpness)
    with torch.no_grad():
        cut = torch.where(u.abs() < 1, squashed, u.clamp(-1, 1)) - squashed
    return squashed + cut


def relaxed_hamming(codes: Tensor, ref_codes: Tensor) -> Tensor:
    r"""Hamming distances between relaxed codes.

    Formula:  D_ij = ½ (K - ⟨φ_i, φ_j⟩), cut to [0, K].

    Args:
        codes: relaxed codes in [-1, 1].
        ref_codes: the other side.

    Shapes:   (B, K), (R, K) -> (B, R), in bits.
    Returns:  the Hamming distance where both sides are codes.
    Raises:   nothing.
    Source:   Cakir et al., ICCV 2017.  Differs: the cut, against rounding.
    """
    bits = codes.shape[1]
    return (0.5 * (bits - codes @ ref_codes.T)).clamp(0, bits)


def soft_histogram(distance: Tensor, masks: Tensor, bits: int, bins: int) -> Tensor:
    r"""Count the pairs of every anchor by distance, each pair shared by two centres.

    Formula:  centres c_l = l Δ, l = 0..bins, Δ = K / bins (they cover 0..K for any K);
              count_sil = sum over j of mask_sij max(0, 1 - |D_ij - c_l| / Δ).

    Args:
        distance: D in bits, within [0, K].
        masks: which pairs count, 0 or 1, for each of S histograms.
        bits: K.
        bins: number of intervals; bins = K gives one centre for each Hamming distance.

    Shapes:   distance (B, R), masks (S, B, R) -> (S, B, bins + 1).
    Returns:  counts whose sum over l is the number of pairs of the anchor. At a centre,
              where the formula has a kink, the gradient is the one from above (from
              below at K).
    Raises:   nothing.
    Source:   Ustinova, Lempitsky, NIPS 2016 (triangular histograms).
              Differs: scattered instead of summed over bins: O(B R), not O(B R bins).

    Example:
        >>> soft_histogram(torch.tensor([[0.0, 1.25]]), torch.ones(1, 1, 2), bits=2, bins=2)
        tensor([[[1.0000, 0.7500, 0.2500]]])
    """
    position = distance * (bins / bits)
    # A NaN stays in the counts; only as an index it must become a number.
    lower = position.detach().nan_to_num().floor().clamp(max=bins - 1)
    upper_share = (position - lower) * masks
    index = lower.long().expand(masks.shape)
    counts = distance.new_zeros(*masks.shape[:2], bins + 1)
    counts = counts.scatter_add(2, index, masks - upper_share)
    return counts.scatter_add(2, index + 1, upper_share)


def pair_histograms(
    embeddings: Tensor,
    ref_emb: Tensor,
    masks: tuple[Tensor, Tensor],
    bins: int,
    sharpness: float,
    keep_codes: bool,
) -> Tensor:
    """Histograms of relaxed Hamming distances, one for each mask of pairs.

    Args:
        embeddings: (B, K) real outputs.
        ref_emb: (R, K); the object `embeddings` itself where there is no reference set.
        masks: (B, R) each: similar pairs, dissimilar pairs.
        bins: as in `soft_histogram`.
        sharpness: as in `relaxed_codes`.
        keep_codes: as in `relaxed_codes`.

    Returns:
        (2, B, bins + 1) counts.
    """
    codes = relaxed_codes(embeddings, sharpness, keep_codes)
    ref_codes = codes
    if ref_emb is not embeddings:
        ref_codes = relaxed_codes(ref_emb, sharpness, keep_codes)
    distance = relaxed_hamming(codes, ref_codes)
    return soft_histogram(distance, torch.stack(masks), embeddings.shape[1], bins)
