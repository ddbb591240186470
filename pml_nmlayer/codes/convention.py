"""The convention of a bit: -1 or +1, and sign(0) = +1."""

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
    if codes.dtype == torch.bool or codes.is_complex():
        raise ValueError(
            f"{name} must hold -1 and +1 only, got {codes.dtype}; bits of True and False "
            "are 2 * codes.float() - 1"
        )
    if not bool((codes.abs() == 1).all()):
        cure = "pass binarize(embeddings), or packed uint8 codes together with bits="
        if bool(((codes == 0) | (codes == 1)).all()):
            cure = "bits of 0 and 1 are 2 * codes - 1"
        raise ValueError(f"{name} must hold -1 and +1 only; {cure}")


def raw_sign(u: Tensor) -> Tensor:
    """Sign with sign(0) = +1, unchecked, for use inside training steps (NaN -> -1).

    Args:
        u: real outputs, any shape.
    """
    # Two operations, and none of them makes numbers of truth values
    u = u.detach()
    return torch.rsub(torch.ge(u, 0, out=torch.empty_like(u)), -1, alpha=-2)


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
