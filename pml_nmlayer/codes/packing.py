"""Codes of -1 and +1 as packed bytes, and back."""

import torch
from torch import Tensor

from .convention import check_codes


def pack_codes(codes: Tensor) -> Tensor:
    r"""Pack codes into bytes: eight bits a byte, first bit highest, as numpy.packbits.

    Formula:  byte_m = sum over j = 0..7 of 2^(7-j) [b_(8m+j) = +1]; missing bits are 0.

    Args:
        codes: -1 and +1, any numeric signed dtype.

    Shapes:   codes (N, K) -> packed (N, ceil(K / 8)) uint8, same device. Any K >= 1.
    Returns:  packed codes; the inverse is `unpack_codes(packed, K)`.
    Raises:   ValueError: not (N, K), or values other than -1 and +1.
    Source:   layout of numpy.packbits and faiss binary indexes.  Differs: no.

    Example:
        >>> pack_codes(torch.tensor([[1, -1, 1, 1]]))
        tensor([[176]], dtype=torch.uint8)
    """
    check_codes(codes)
    n, bits = codes.shape
    width = -(-bits // 8)
    ones = torch.zeros(n, width * 8, dtype=torch.int32, device=codes.device)
    ones[:, :bits] = codes > 0
    place = 2 ** torch.arange(7, -1, -1, dtype=torch.int32, device=codes.device)
    return (ones.view(n, width, 8) * place).sum(2).to(torch.uint8)


def unpack_codes(packed: Tensor, bits: int) -> Tensor:
    r"""Unpack bytes into codes; the inverse of `pack_codes`.

    Args:
        packed: uint8 codes, a tensor or an array.
        bits: code length K, in bits.

    Shapes:   packed (N, ceil(K / 8)) uint8 -> codes (N, K) float32 of -1 and +1.
    Returns:  codes on the device of `packed`.
    Raises:   ValueError: another dtype, another width than ceil(K / 8), or a bit set
              beyond K (a sign of codes of another length).
    Source:   layout of numpy.packbits.  Differs: no.

    Example:
        >>> unpack_codes(torch.tensor([[176]], dtype=torch.uint8), bits=4)
        tensor([[ 1., -1.,  1.,  1.]])
    """
    packed = torch.as_tensor(packed)
    width = -(-bits // 8)
    if packed.dtype != torch.uint8 or packed.ndim != 2 or packed.shape[1] != width:
        raise ValueError(
            f"packed codes of {bits} bits must be uint8 of shape (N, {width}), "
            f"got {packed.dtype} of shape {tuple(packed.shape)}"
        )
    place = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    ones = ((packed.unsqueeze(2) >> place) & 1).flatten(1)
    if bool(ones[:, bits:].any()):
        raise ValueError(
            f"packed codes have bits set beyond the first {bits}; were they packed with "
            "another length?"
        )
    return ones[:, :bits].to(torch.float32) * 2 - 1
