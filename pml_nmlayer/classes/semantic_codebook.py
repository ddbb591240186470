"""Codewords that know which classes are alike."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..codes.convention import raw_sign
from ..runtime.assignment import assign_columns
from .codebooks import check_codebook_size, maximin_codebook

_STARTS = 5  # rotations to begin with; the best end is taken
_ROUNDS = 50  # at most; it settles long before
_MANY_CLASSES = 1000  # above, one start, and assignment in blocks: it takes its time
_BLOCK = 768  # codes that change hands at once
_SWEEPS = 12  # over all blocks


def semantic_codebook(
    class_means: Tensor, bits: int, *, seed: int = 0, spare: int = 0
) -> Tensor:
    r"""Give similar classes similar codewords, and each class one of its own.

    Formula:  max over π, R of sum over c of ⟨b_π(c), R t_c⟩, where t_c is the class mean,
              centred, of unit length, reduced to its K first principal components; b are
              (1 + spare) C codes that are far apart (`maximin_codebook`; fewer if there are
              fewer), π chooses a different one for each class, and R is orthogonal. π and R
              are found in turn, by assignment and by the Procrustes solution, from several
              R. If class means have K entries, columns are then permuted and negated so
              that they agree with these best.
              With more than 1,000 classes there is one R to begin with. Codes then change
              hands in blocks of 768, each assigned exactly. The sum ends one to three
              percent lower, in a small part of the time.

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
    pool = maximin_codebook(min(classes * (1 + spare), 2**bits), bits, seed=seed)
    means = class_means.detach().cpu().double()
    means = means - means.mean(0)
    wanted = _principal(F.normalize(means, dim=1), bits)
    generator = torch.Generator("cpu").manual_seed(seed)
    if classes > _MANY_CLASSES:
        codewords = _assign_in_blocks(wanted, pool.double(), generator)
    else:
        ends = [_assign(wanted, pool.double(), generator) for _ in range(_STARTS)]
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
    rotation = _random_rotation(wanted.shape[1], generator)
    best, codewords = -torch.inf, pool[: len(wanted)]
    for _ in range(_ROUNDS):
        rotated = wanted @ rotation
        chosen = pool[assign_columns(rotated @ pool.T)]
        agreement = float((rotated * chosen).sum())
        if agreement <= best + 1e-9:
            break
        best, codewords = agreement, chosen
        rotation = _procrustes(wanted, codewords)
    return best, codewords


def _random_rotation(bits: int, generator: torch.Generator) -> Tensor:
    start = torch.randn(bits, bits, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(start)
    return rotation


def _procrustes(wanted: Tensor, codewords: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(wanted.T @ codewords)
    return left @ right


def _assign_in_blocks(wanted: Tensor, pool: Tensor, generator: torch.Generator) -> Tensor:
    """Find codewords as `_assign` does, but let them change hands in blocks alone."""
    classes, bits = wanted.shape
    rotated = wanted @ _random_rotation(bits, generator)
    # The code of each class, and then the spare ones
    codes = torch.arange(len(pool))
    codes[:classes] = _greedy(rotated, pool[:classes], generator)
    for sweep in range(_SWEEPS):
        codewords = pool[codes[:classes]]
        rotated = wanted @ _procrustes(wanted, codewords)
        direction = torch.randn(bits, generator=generator, dtype=torch.float64)
        # Blocks of classes that want alike, and in turn of those that have alike
        along = codewords if sweep % 2 else rotated
        _sweep(rotated, pool, codes, along @ direction, pool[codes[classes:]] @ direction)
    return pool[codes[:classes]]


def _greedy(rotated: Tensor, pool: Tensor, generator: torch.Generator) -> Tensor:
    """Let classes choose in random order; each takes the best code that is left."""
    classes = len(rotated)
    rotated, pool = rotated.float(), pool.float()
    taken, chosen = torch.zeros(classes), torch.empty(classes, dtype=torch.int64)
    for c in torch.randperm(classes, generator=generator).tolist():
        code = torch.addmv(taken, pool, rotated[c]).argmax()
        taken[code], chosen[c] = -torch.inf, code
    return chosen


def _sweep(
    rotated: Tensor, pool: Tensor, codes: Tensor, along: Tensor, spare_along: Tensor
) -> None:
    """Assign the codes of each block anew; the sum of agreement never falls.

    Args:
        rotated: what the classes want (C, K).
        pool: codes (P, K).
        codes: a permutation (P,), overwritten: the codes of the classes, then the others.
        along: (C,), by which classes are sorted before they are cut into blocks.
        spare_along: (P - C,), the same for the codes of no class.
    """
    blocks = -(-len(codes) // _BLOCK)
    spare = len(rotated) + spare_along.argsort()
    for owners, others in zip(
        along.argsort().tensor_split(blocks), spare.tensor_split(blocks), strict=True
    ):
        slots = torch.cat([owners, others])
        own = codes[slots]
        gains = rotated[owners] @ pool[own].T
        # Potentials change no assignment, and halve the time of the search for one
        gains -= gains.amax(1, keepdim=True)
        if len(others) == 0:
            gains -= gains.amax(0)
        columns = assign_columns(gains)
        left = torch.ones(len(slots), dtype=torch.bool)
        left[columns] = False
        codes[slots] = torch.cat([own[columns], own[left]])


def _as_aligned(codewords: Tensor, means: Tensor) -> Tensor:
    agreement = means.T @ codewords
    columns = assign_columns(agreement.abs())
    signs = raw_sign(agreement.gather(1, columns[:, None]).squeeze(1))
    return codewords[:, columns] * signs
