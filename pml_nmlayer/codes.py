"""The code convention, in one place: a bit is -1 or +1, and the sign of 0 is +1."""

import torch
from torch import Tensor


def check_codes(codes: Tensor, name: str = "codes") -> None:
    """Refuse what is not a (N, K) tensor of -1 and +1.

    Args:
        codes: what a user calls codes.
        name: how the message calls them.

    Raises:
        ValueError: wrong number of dimensions, no bits, or another value than -1, +1.
    """
    if codes.ndim != 2 or codes.shape[1] == 0:
        raise ValueError(
            f"{name} must have shape (N, K) with K >= 1, got {tuple(codes.shape)}"
        )
    if not bool((codes.abs() == 1).all()):
        raise ValueError(
            f"{name} must hold -1 and +1 only; pass binarize(embeddings), or packed "
            "uint8 codes together with bits="
        )


def raw_sign(u: Tensor) -> Tensor:
    """Sign with sign(0) = +1, unchecked, for use inside training steps (NaN -> -1).

    Args:
        u: real outputs, any shape.
    """
    # In place on a copy: four times as fast as torch.where(u >= 0, 1.0, -1.0) on a CPU
    return u.detach().clone().ge_(0).mul_(2).sub_(1)


def binarize(u: Tensor) -> Tensor:
    r"""Turn real outputs into codes.

    Formula:  b = +1 where u >= 0, else -1.

    Args:
        u: real outputs, any shape, a signed dtype; infinities are allowed.

    Shapes:   u (...,) -> b (...,), same dtype and device.
    Returns:  tensor of -1 and +1. No gradient: see `sign_ste`.
    Raises:   ValueError: u holds NaN, which has no sign (not checked while compiling).
              TypeError: u has an unsigned or boolean dtype.
    Source:   convention of this package.  Differs: torch.sign gives a third symbol, 0.

    Example:
        >>> binarize(torch.tensor([[-0.5, 0.0, 2.0]]))
        tensor([[-1.,  1.,  1.]])
    """
    if u.dtype in (torch.bool, torch.uint8):
        raise TypeError(f"binarize needs a signed dtype, got {u.dtype}")
    if not torch.compiler.is_compiling() and bool(torch.isnan(u).any()):
        raise ValueError(
            "binarize got NaN, which has no sign; look for a diverged training run"
        )
    return raw_sign(u.detach())


class _SignSTE(torch.autograd.Function):
    @staticmethod
    def forward(u: Tensor) -> Tensor:
        return raw_sign(u)

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: object, *grad_outputs: Tensor) -> Tensor:
        return grad_outputs[0]


def sign_ste(u: Tensor) -> Tensor:
    r"""Sign in the forward pass, identity in the backward pass (straight-through).

    Formula:  b = +1 where u >= 0, else -1;  dL/du := dL/db.

    Args:
        u: real outputs, any shape, floating point.

    Shapes:   u (...,) -> b (...,).
    Returns:  tensor of exactly -1 and +1 that carries a gradient.
    Raises:   nothing; NaN becomes -1, since a check would stall a training step.
    Source:   Bengio et al. 2013, arXiv:1308.3432.  Differs: no clipping of the gradient.

    Example:
        >>> u = torch.tensor([-0.5, 0.0], requires_grad=True)
        >>> sign_ste(u).sum().backward()
        >>> u.grad
        tensor([1., 1.])
    """
    return _SignSTE.apply(u)


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
        packed: uint8 codes.
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
