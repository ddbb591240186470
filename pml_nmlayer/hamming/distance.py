"""Distances between codes, in bits."""

import torch
from torch import Tensor

from ..codes.convention import check_codes
from ..codes.packing import unpack_codes
from ..runtime.options import check_count
from ..runtime.renamed import renamed
from .counting import distance

# The best of 2^13 to 2^16 items times 2^17 to 2^20 pairs: 1.9 ns a pair of 48 or 64 bits,
# the others up to 6 (processor time of one thread). A budget only lowers these.
_BLOCK_PAIRS = 2**20


@renamed(q="query", r="reference")
def hamming_distance(
    query: Tensor, reference: Tensor, *, bits: int | None = None
) -> Tensor:
    r"""Count the bits in which codes differ.

    Formula:  d(q, r) = |{k: q_k != r_k}| = (K - ⟨q, r⟩) / 2 for codes of -1 and +1.

    Args:
        query: query codes, -1 and +1, or packed uint8.
        reference: database codes, in the same form.
        bits: code length K in bits; required for packed codes only.

    Shapes:   query (Q, K), reference (N, K); packed (Q, ceil(K / 8)), (N, ceil(K / 8))
              -> (Q, N).
    Returns:  int32 distances in bits; exact up to K = 2^24.
    Raises:   ValueError: not codes, other lengths on both sides, or packed codes without
              `bits`.
    Source:   Hamming 1950.  Differs: no.

    Example:
        >>> import torch
        >>> hamming_distance(torch.tensor([[1, -1]]), torch.tensor([[1, -1], [-1, 1]]))
        tensor([[0, 2]], dtype=torch.int32)
    """
    q, r, bits = _both_sides(query, reference, bits)
    if q.dtype == torch.uint8:
        q, r = unpack_codes(q, bits), unpack_codes(r, bits)
    return distance(q.float(), r.float().to(q.device)).to(torch.int32)


def _both_sides(q: Tensor, r: Tensor, bits: int | None) -> tuple[Tensor, Tensor, int]:
    q, q_bits = checked_codes(q, bits, "query codes")
    r, r_bits = checked_codes(r, bits, "database codes")
    if q_bits != r_bits:
        raise ValueError(f"query codes have {q_bits} bits and database codes {r_bits}")
    return q, r, q_bits


def checked_codes(codes: Tensor, bits: int | None, name: str) -> tuple[Tensor, int]:
    """Check codes as they are; stray bits of packed ones come up when they are unpacked.

    Args:
        codes: -1 and +1, or packed uint8.
        bits: code length; required for packed codes only.
        name: how the message calls them.

    Returns:
        (codes as a tensor, K).

    Raises:
        ValueError: as `hamming_distance`.
    """
    check_count("bits", bits, none="codes that are not packed")
    codes = torch.as_tensor(codes)
    if codes.dtype == torch.uint8:
        if bits is None:
            raise ValueError(f"{name} are packed (uint8): pass bits=, their length in bits")
        unpack_codes(codes[:0], bits)  # refuses another width
        return codes, bits
    check_codes(codes[:0], name)
    for block in codes.split(max(_BLOCK_PAIRS // codes.shape[1], 1)):  # bounds memory
        check_codes(block, name)
    if bits not in (None, codes.shape[1]):
        raise ValueError(f"bits={bits}, but {name} have {codes.shape[1]} bits")
    return codes, codes.shape[1]
