"""Class centres: one code a class, far apart from each other, for any code length."""

import torch
from torch import Tensor

from ..codes.convention import check_codes

# Bounds of the greedy search: with these, 10,000 centres of 64 bits take seconds.
_ROUNDS = 128
_LEAST_POOL, _LARGEST_POOL = 2**10, 2**14
_PRODUCTS_AT_ONCE = 2**19  # what a cache holds


def hadamard_codebook(num_classes: int, bits: int, *, seed: int = 0) -> Tensor:
    r"""Take class centres from the rows of a Hadamard matrix and their negatives.

    Formula:  H_1 = [1],  H_2n = [[H_n, H_n], [H_n, -H_n]];  centre_c = s_c H[π(c)] for
              c < K with random signs s and a random order π, then centre_(K+c) = -centre_c.

    Args:
        num_classes: C, from 1 to 2K.
        bits: code length K, a power of two.
        seed: of the order and the signs; the distances do not depend on it.

    Shapes:   -> (C, K) float32 of -1 and +1, on the CPU.
    Returns:  centres that are K/2 bits apart, a centre and its negative K bits.
    Raises:   ValueError: K is no power of two, or C > 2K.
    Source:   Sylvester 1867; Yuan et al., CVPR 2020, arXiv:1908.00347 (CSQ).
              Differs: order and signs are random. The first rows of H in their order have
              a column of ones, a bit that tells no classes apart. With fewer classes than
              bits they have equal columns, bits that are copies of each other.

    Example:
        >>> centres = hadamard_codebook(3, 4)
        >>> (centres @ centres.T).tolist()
        [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]]
    """
    check_codebook_size(num_classes, bits)
    if not _hadamard_fits(num_classes, bits):
        raise ValueError(
            f"a Hadamard codebook has 2K centres at most and K a power of two; got "
            f"num_classes={num_classes}, bits={bits}. Use 'maximin' or 'auto' instead"
        )
    rows = torch.ones(1, 1, device="cpu", dtype=torch.float32)
    while len(rows) < bits:
        rows = torch.cat([torch.cat([rows, rows], 1), torch.cat([rows, -rows], 1)])
    generator = torch.Generator("cpu").manual_seed(seed)
    order = torch.randperm(bits, generator=generator, device="cpu")
    rows = rows[order] * _random_codes(bits, 1, generator)
    return torch.cat([rows, -rows])[:num_classes].clone()


def maximin_codebook(num_classes: int, bits: int, *, seed: int = 0) -> Tensor:
    r"""Choose class centres one by one, each as far as possible from those before it.

    Formula:  centre_n = argmax over candidates x of min over m < n of Hamming(x, centre_m);
              candidates are all 2^K codes where those are few, else fresh random codes.

    Args:
        num_classes: C, from 1 to 2^K.
        bits: code length K >= 1, any.
        seed: of the candidates. One seed always gives the same centres.

    Shapes:   -> (C, K) float32 of -1 and +1, on the CPU.
    Returns:  centres, all different. The search needs little memory beyond them.
    Raises:   ValueError: C > 2^K, for which two classes would share a centre.
    Source:   farthest-first selection; Hoe et al., NeurIPS 2021, arXiv:2109.14449, and
              Fan et al., IJCAI 2020, reject random codes below a minimum distance.
              Differs: the best of many candidates is taken, so that no distance has to be
              guessed; several centres are taken from one pool of candidates when there are
              many classes.

    Example:
        >>> centres = maximin_codebook(8, 3)
        >>> len(centres.unique(dim=0))
        8
    """
    check_codebook_size(num_classes, bits)
    generator = torch.Generator("cpu").manual_seed(seed)
    centres = torch.empty(num_classes, bits, device="cpu", dtype=torch.float32)
    take = -(-num_classes // _ROUNDS)
    pool = max(_LEAST_POOL, 4 * take, min(_LARGEST_POOL, 2**20 // num_classes))
    few_codes = 2**bits <= max(_LARGEST_POOL // 4, 4 * num_classes)
    count = 0
    while count < num_classes:
        if few_codes:  # one pass over all of them; an unused one is always left
            candidates, take = _all_codes(bits, generator), num_classes
        else:
            candidates = _random_codes(pool, bits, generator)
        closest = _largest_product(candidates, centres[:count])
        for _ in range(min(take, num_classes - count)):
            best = int(closest.argmin())
            if closest[best] == bits:  # every candidate is a centre already: draw again
                break
            centres[count] = candidates[best]
            closest = torch.maximum(closest, candidates @ candidates[best])
            count += 1
    return centres


def make_codebook(
    num_classes: int, bits: int, *, kind: str | Tensor = "auto", seed: int = 0
) -> Tensor:
    r"""Make class centres for any number of classes and bits.

    Args:
        num_classes: C, from 1 to 2^K.
        bits: code length K >= 1.
        kind: "hadamard", "maximin", or "auto": Hadamard where K is a power of two and
            C <= 2K, else maximin. Or centres of your own, (C, K) of -1 and +1.
        seed: see the two functions; has no effect on centres of your own.

    Shapes:   -> (C, K) float32 of -1 and +1, on the CPU.
    Returns:  centres; a copy of your own ones.
    Raises:   ValueError: an unknown kind, one that has not enough centres, or own centres
              of another shape or with other values.
    Source:   convention of this package.  Differs: the papers stop at K a power of two.

    Example:
        >>> make_codebook(10, 24).shape
        torch.Size([10, 24])
    """
    if isinstance(kind, Tensor):
        check_codes(kind, "codebook")
        if kind.shape != (num_classes, bits):
            raise ValueError(
                f"codebook must have shape (num_classes, embedding_size) = "
                f"({num_classes}, {bits}), got {tuple(kind.shape)}"
            )
        return kind.detach().to(torch.float32, copy=True)
    if kind not in ("auto", "hadamard", "maximin"):
        raise ValueError(
            f"codebook must be 'auto', 'hadamard', 'maximin' or a tensor, got {kind!r}"
        )
    if kind == "hadamard" or (kind == "auto" and _hadamard_fits(num_classes, bits)):
        return hadamard_codebook(num_classes, bits, seed=seed)
    return maximin_codebook(num_classes, bits, seed=seed)


def majority(rows: Tensor, codebook: Tensor, tie_bits: Tensor) -> Tensor:
    r"""Take the codeword of an item's class; for several classes each bit is a vote.

    Formula:  t_ik = sign(sum over c of y_ic b_ck), and in a tied bit r_k.

    Args:
        rows: multi-hot rows y of 0 and 1.
        codebook: b, of -1 and +1.
        tie_bits: r, of -1 and +1, see `tie_bits_of`.

    Shapes:   (B, C), (C, K), (K,) -> (B, K) of -1 and +1; r for an item without classes.
    Source:   Yuan et al., CVPR 2020, arXiv:1908.00347 (CSQ).  Differs: r is drawn once, as
              it decides half of the bits of two classes.
    """
    # sums are integers, so half a bit only speaks where they are zero
    return torch.sign(rows @ codebook + 0.5 * tie_bits)


def codeword_targets(
    labels: Tensor, rows: Tensor, codebook: Tensor, tie_bits: Tensor | None
) -> Tensor:
    """Take the codeword of each item: that of its class id, or else a vote.

    Args:
        labels: class ids (B,), or multi-hot rows (B, C).
        rows: the same as multi-hot rows (B, C), see `class_rows`.
        codebook: (C, K) of -1 and +1.
        tie_bits: see `majority`; None will do for class ids.

    Returns:
        (B, K) of -1 and +1, in the dtype of the codebook.
    """
    if labels.ndim == 1:
        return codebook.index_select(0, labels.long())
    assert tie_bits is not None
    return majority(rows, codebook, tie_bits)


def tie_bits_of(bits: int, *, seed: int = 0) -> Tensor:
    """Draw the bits that decide tied votes.

    Args:
        bits: K.
        seed: one seed always gives the same bits.

    Returns:
        (K,) float32 of -1 and +1, on the CPU.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    coins = torch.rand(bits, generator=generator, device="cpu")
    return torch.where(coins < 0.5, -1.0, 1.0)


def check_codebook_size(num_classes: int, bits: int) -> None:
    """Refuse fewer codes than classes.

    Args:
        num_classes: C.
        bits: K.

    Raises:
        ValueError: one is < 1, or C > 2^K.
    """
    if num_classes < 1 or bits < 1:
        raise ValueError(
            f"a codebook needs num_classes >= 1 and bits >= 1, got {num_classes} and {bits}"
        )
    if num_classes > 2**bits:
        raise ValueError(
            f"{bits} bits have {2**bits} codes, too few for num_classes={num_classes}; use "
            f"{(num_classes - 1).bit_length()} bits or more"
        )


def _hadamard_fits(num_classes: int, bits: int) -> bool:
    return bits & (bits - 1) == 0 and num_classes <= 2 * bits


def _random_codes(count: int, bits: int, generator: torch.Generator) -> Tensor:
    zeros_and_ones = torch.randint(
        2, (count, bits), generator=generator, device="cpu", dtype=torch.float32
    )
    return 2 * zeros_and_ones - 1


def _all_codes(bits: int, generator: torch.Generator) -> Tensor:
    words = torch.randperm(2**bits, generator=generator, device="cpu")
    place = torch.arange(bits, device="cpu")
    return ((words[:, None] >> place) & 1).float() * 2 - 1


def _largest_product(candidates: Tensor, centres: Tensor) -> Tensor:
    """Return max over centres of ⟨x, centre⟩ = K - 2 Hamming, one value a candidate."""
    largest = candidates.new_full((len(candidates),), -torch.inf)
    step = max(1, _PRODUCTS_AT_ONCE // len(candidates))
    for start in range(0, len(centres), step):
        products = candidates @ centres[start : start + step].T
        largest = torch.maximum(largest, products.amax(1))
    return largest
