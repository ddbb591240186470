"""Codewords that know which classes are alike."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..codes.convention import raw_sign
from ..runtime.assignment import assign_columns
from .codebooks import check_codebook_size, maximin_codebook

_STARTS = 5  # rotations to begin with; the best end is taken
_ROUNDS = 50  # at most; it settles long before
_MANY_CLASSES = 1000  # above, one start: assignment takes its time


def semantic_codebook(
    class_means: Tensor, bits: int, seed: int = 0, spare: int = 0
) -> Tensor:
    r"""Give similar classes similar codewords, and each class one of its own.

    Formula:  max over π, R of sum over c of ⟨b_π(c), R t_c⟩, where t_c is the class mean,
              centred, of unit length, reduced to its K first principal components; b are
              (1 + spare) C codes that are far apart (`maximin_codebook`; fewer if there are
              fewer), π chooses a different one for each class, and R is orthogonal. π and R
              are found in turn, by assignment and by the Procrustes solution, from several
              R. If class means have K entries, columns are then permuted and negated so
              that they agree with these best.

    Args:
        class_means: what is known of the classes: means of codes, outputs or features.
        bits: code length K >= 1.
        seed: of the codes and of the first R. One seed always gives the same codewords.
        spare: codes to choose from for each class, beyond one. Without any, codewords are
            those of `maximin_codebook`, far apart and little correlated; the more there
            are, the more bits similar classes share.

    Shapes:   (C, D) -> (C, K) float32 of -1 and +1, on the CPU.
    Returns:  codewords, all different. A class whose mean is that of all gets any.
    Raises:   ValueError: means not of shape (C, D) or not finite; C > 2^K; spare < 0.
    Source:   this package; alternation as in ITQ (Gong and Lazebnik, CVPR 2011).
              Differs: an assignment (scipy) takes the place of their sign, so that no two
              classes share a code.

    Example:
        >>> means = torch.tensor([[4., 0.], [4., 1.], [-4., 0.], [-4., 1.]])
        >>> b = semantic_codebook(means, bits=6, spare=1)
        >>> [int((b[0] != b[c]).sum()) for c in range(4)]
        [0, 2, 4, 6]
    """
    if class_means.ndim != 2:
        raise ValueError(
            f"class_means must have shape (C, D), got {tuple(class_means.shape)}"
        )
    if not bool(class_means.isfinite().all()):
        raise ValueError("class_means hold NaN or inf: no codewords can be told from them")
    if spare < 0:
        raise ValueError(f"spare codes must be at least 0 a class, got {spare}")
    classes = len(class_means)
    check_codebook_size(classes, bits)
    pool = maximin_codebook(min(classes * (1 + spare), 2**bits), bits, seed)
    means = class_means.detach().cpu().double()
    means = means - means.mean(0)
    wanted = _principal(F.normalize(means, dim=1), bits)
    generator = torch.Generator("cpu").manual_seed(seed)
    starts = 1 if classes > _MANY_CLASSES else _STARTS
    ends = [_assign(wanted, pool.double(), generator) for _ in range(starts)]
    _, codewords = max(ends, key=lambda end: end[0])
    if means.shape[1] == bits:
        codewords = _as_aligned(codewords, means)
    return codewords.float()


def _principal(rows: Tensor, dimensions: int) -> Tensor:
    left, values, _ = torch.linalg.svd(rows, full_matrices=False)
    scores = (left * values)[:, :dimensions]
    return F.pad(scores, (0, dimensions - scores.shape[1]))


def _assign(
    wanted: Tensor, pool: Tensor, generator: torch.Generator
) -> tuple[float, Tensor]:
    """Find an assignment and a rotation in turn; return how well they agree, codewords."""
    bits = wanted.shape[1]
    start = torch.randn(bits, bits, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(start)
    best, codewords = -torch.inf, pool[: len(wanted)]
    for _ in range(_ROUNDS):
        rotated = wanted @ rotation
        chosen = pool[assign_columns(rotated @ pool.T)]
        agreement = float((rotated * chosen).sum())
        if agreement <= best + 1e-9:
            break
        best, codewords = agreement, chosen
        left, _, right = torch.linalg.svd(wanted.T @ codewords)
        rotation = left @ right
    return best, codewords


def _as_aligned(codewords: Tensor, means: Tensor) -> Tensor:
    agreement = means.T @ codewords
    columns = assign_columns(agreement.abs())
    signs = raw_sign(agreement.gather(1, columns[:, None]).squeeze(1))
    return codewords[:, columns] * signs
