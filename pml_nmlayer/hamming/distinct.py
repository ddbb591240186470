"""How many codes there are."""

import torch
from torch import Tensor

from ..codes.packing import pack_codes
from .distance import checked_codes


def distinct_codes(codes: Tensor, *, bits: int | None = None) -> int:
    r"""Count the different codes of a data set.

    Far fewer codes than items mean that most rankings are ties. One code means that the
    outputs never cross 0.

    Args:
        codes: -1 and +1, or packed uint8.
        bits: code length K in bits; required for packed codes only.

    Shapes:   codes (N, K), or packed (N, ceil(K / 8)).
    Returns:  a number in 0 .. N.
    Raises:   ValueError: as `hamming_distance`.

    Example:
        >>> distinct_codes(torch.tensor([[1, -1], [1, 1], [1, -1]]))
        2
    """
    codes, _ = checked_codes(codes, bits, "codes")
    packed = codes if codes.dtype == torch.uint8 else pack_codes(codes)
    return len(packed.unique(dim=0)) if len(packed) else 0
