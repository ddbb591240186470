"""How well classes and labels can be told from outputs and bits.

Gradients are closed forms, found together with the value: a training step spends its time
on the number of operations. Second derivatives are therefore not available.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..codes.convention import raw_sign
from ..labels.checks import check_class_ids, class_rows
from .codebooks import codeword_targets

LEAST_PROBABILITY = 1e-6  # of a bit: one that is saturated has no slope left anyway


def codeword_nll(outputs: Tensor, targets: Tensor, tanh: bool) -> Tensor:
    r"""Measure how far outputs are from the codes that they should have.

    Formula:  mean over i, k of -log p_ik,  p = ½(1 + t h) with outputs h = tanh u and
              p = 1 / (1 + exp(-2 t u)) with linear ones: the same, as a function of u.

    Args:
        outputs: h or u.
        targets: t, of -1 and +1.
        tanh: whether outputs lie in [-1, 1], as after a tanh.

    Shapes:   (B, K), (B, K) -> 0-d float32.
    Returns:  nats a bit; 0 for an empty batch. At most 13.8 a bit for tanh outputs.
    Source:   the first term of CSQ (Yuan et al., CVPR 2020).  Differs: the bound.
    """
    with torch.no_grad():
        value, slope = _codeword_nll(outputs.float(), targets, tanh)
    return _with_slope(value, outputs, slope)


def class_nll(scores: Tensor, labels: Tensor) -> Tensor:
    r"""Measure how well scores tell the classes of items.

    Formula:  mean over i of -sum over c of y_ic / |y_i| log softmax(s_i)_c, with |y_i| the
              number of classes of item i: the cross-entropy, for one class an item.

    Args:
        scores: s.
        labels: y, class ids from 0 to C - 1 or multi-hot rows.

    Shapes:   (B, C), (B,) or (B, C) -> 0-d float32.
    Returns:  nats an item; 0 for an empty batch. An item without classes adds 0.
    Raises:   ValueError: labels that do not fit.
    Source:   cross-entropy; several classes share the probability as in OrthoHash (Hoe et
              al., NeurIPS 2021).  Differs: no.

    Example:
        >>> class_nll(torch.zeros(2, 4), torch.tensor([0, 3])).item()  # log 4
        1.386...
    """
    labels, count = labels.to(scores.device), max(len(scores), 1)
    if labels.ndim == 1:
        check_class_ids(labels, scores.shape[1])
        reduction = "mean" if len(scores) else "sum"
        return F.cross_entropy(scores.float(), labels.long(), reduction=reduction)
    rows = class_rows(labels, scores.shape[1])
    shares = rows / rows.sum(1, keepdim=True).clamp(min=1)
    return -(shares * scores.float().log_softmax(1)).sum() / count


def label_map(codes: Tensor, rows: Tensor, ridge: float) -> Tensor:
    r"""Find the linear map that reads the labels of a batch from its codes.

    Formula:  W that makes  mean over i of ‖y_i - W b_i‖² + ridge ‖W‖²  smallest:
              W = (mean of y bᵀ) (mean of b bᵀ + ridge I)⁻¹.

    Args:
        codes: b, of -1 and +1.
        rows: y, multi-hot rows.
        ridge: > 0, no unit; what keeps W small, for any K and any B.

    Shapes:   (B, K), (B, C) -> (C, K), in the dtype of the codes.
    Returns:  W, without gradient; 0 for an empty batch. The system that is solved is the
              smaller one, of K or of B unknowns.
    Source:   the closed form of DSDH (Li, Sun, He, Tan, NeurIPS 2017, arXiv:1705.10999).
              Differs: W is that of the batch, not of the whole training set.
    """
    with torch.no_grad():
        return _read(codes, rows, ridge)[0]


def label_residual(codes: Tensor, labels: Tensor, num_classes: int, ridge: float) -> Tensor:
    r"""Measure how well the labels of a batch can be read from its codes by a linear map.

    Formula:  mean over i of ‖y_i - W b_i‖²,  W = label_map(b, y, ridge).

    Args:
        codes: b, of -1 and +1, with a gradient if they come from `sign_ste`.
        labels: y, class ids from 0 to C - 1 or multi-hot rows.
        num_classes: C.
        ridge: see `label_map`.

    Shapes:   (B, K), (B,) or (B, C) -> 0-d float32.
    Returns:  squared labels an item; 0 for an empty batch. The gradient takes W as fixed.
              So it is that of the sum with ridge ‖W‖², which is smallest at this W.
    Raises:   ValueError: labels that do not fit.
    Source:   the class term of DSDH, see `label_map`.  Differs: no.

    Example:
        >>> codes = torch.tensor([[1., -1.], [-1., 1.]])
        >>> label_residual(codes, torch.tensor([0, 1]), num_classes=2, ridge=0.5)
        tensor(0.5200)
    """
    rows = class_rows(labels.to(codes.device), num_classes)
    with torch.no_grad(), _full_precision(codes.device.type):
        value, slope = _label_residual(codes.float(), rows, ridge)
    return _with_slope(value, codes, slope)


def code_terms(
    outputs: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    tanh: bool,
    ridge: float,
    codewords: Tensor | None = None,
    tie_bits: Tensor | None = None,
    codeword_weight: float = 1.0,
    label_weight: float = 1.0,
) -> tuple[Tensor | None, Tensor | None]:
    r"""Compute both terms of a code, at little more than the cost of one.

    Formula:  γ codeword_nll(h, t), with the codewords t of the items (see `majority`), and
              μ label_residual(b, y), with b = sign h and dL/dh := dL/db. For linear outputs
              b = sign tanh u.

    Args:
        outputs: h, or linear ones u.
        labels: y, class ids from 0 to C - 1 or multi-hot rows.
        num_classes: C.
        tanh: whether outputs lie in [-1, 1], as after a tanh.
        ridge: see `label_map`.
        codewords: of the classes; None leaves the first term out.
        tie_bits: see `majority`; needed for codewords of multi-hot rows.
        codeword_weight: γ; 0 leaves the first term out.
        label_weight: μ; 0 leaves the second term out.

    Shapes:   outputs (B, K), labels (B,) or (B, C), codewords (C, K), tie_bits (K,)
              -> 0-d float32 each.
    Returns:  both terms, times their weights; None for one that is left out.
    Raises:   ValueError: labels that do not fit.
    Source:   this package.  Differs: no.

    Example:
        >>> outputs, labels = torch.tensor([[0.5, -0.5]]), torch.tensor([0])
        >>> codewords = torch.tensor([[1., -1.], [1., 1.]])
        >>> pull, read = code_terms(outputs, labels, num_classes=2, tanh=True, ridge=0.5,
        ...                         codewords=codewords)
        >>> round(pull.item(), 4), round(read.item(), 4)  # the first is -log 0.75
        (0.2877, 0.04)
    """
    labels = labels.to(outputs.device)
    pull = read = slope_of_pull = slope_of_read = None
    with torch.no_grad(), _full_precision(outputs.device.type):
        rows = class_rows(labels, num_classes)
        h = outputs.float()
        if codewords is not None and codeword_weight > 0:
            targets = codeword_targets(labels, rows, codewords.float(), tie_bits)
            pull, slope_of_pull = _codeword_nll(h, targets, tanh, codeword_weight)
        if label_weight > 0:
            read, slope_of_read = _label_residual(raw_sign(h), rows, ridge, label_weight)
            if not tanh:  # so that a sure bit is left in peace
                slope_of_read.mul_(1 - h.tanh().square_())
    if pull is None or slope_of_pull is None:
        if read is None or slope_of_read is None:
            return None, None
        return None, _with_slope(read, outputs, slope_of_read)
    if read is None or slope_of_read is None:
        return _with_slope(pull, outputs, slope_of_pull), None
    if not torch.is_grad_enabled():
        return pull, read
    return _BothWithSlopes.apply(outputs, pull, slope_of_pull, read, slope_of_read)


def _codeword_nll(
    h: Tensor, targets: Tensor, tanh: bool, weight: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Value, and slope with regard to h."""
    share = weight / max(h.numel(), 1)
    if not tanh:
        z = (targets * h).mul_(-2)
        return F.softplus(z).sum().mul_(share), z.sigmoid_().mul_(targets).mul_(-2 * share)
    # t (1 + t h) = t + h, whose size is 2 p, and d log p / dh = 1 / (t + h)
    both = targets + h
    twice = both.abs()
    slope = both.reciprocal_().masked_fill_(twice < 2 * LEAST_PROBABILITY, 0).mul_(-share)
    nll = twice.mul_(0.5).clamp_(min=LEAST_PROBABILITY).log_().sum().mul_(-share)
    return nll, slope


def _read(codes: Tensor, rows: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Return W (C, K) and what it leaves of the labels (B, C)."""
    items, bits = codes.shape
    count = max(items, 1)
    small = bits <= count
    gram = codes.T @ codes if small else codes @ codes.T
    gram.diagonal().add_(ridge * count)
    factor, _ = torch.linalg.cholesky_ex(gram)  # a check of success would wait
    if small:
        weights = torch.cholesky_solve(codes.T @ rows, factor)
        return weights.T, torch.addmm(rows, codes, weights, alpha=-1)
    left = torch.cholesky_solve(rows, factor)
    return left.T @ codes, left.mul_(ridge * count)


def _label_residual(
    codes: Tensor, rows: Tensor, ridge: float, weight: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Value, and slope with regard to the codes at a fixed W."""
    share = weight / max(len(codes), 1)
    label_weights, left = _read(codes, rows, ridge)
    slope = torch.addmm(codes, left, label_weights, beta=0, alpha=-2 * share)
    return torch.linalg.vecdot(left.flatten(), left.flatten()).mul_(share), slope


class _WithSlope(torch.autograd.Function):
    """A value whose derivative is known already.

    A `setup_context` would treble the time of a call.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return value.view(())

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * grad_outputs[0], None, None


class _BothWithSlopes(torch.autograd.Function):
    """Two values whose derivatives are known already."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, value: Tensor, slope: Tensor, other: Tensor, slope_2: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(slope, slope_2)
        return value.view(()), other.view(())

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        slope, slope_2 = ctx.saved_tensors
        grad = (slope * grad_outputs[0]).addcmul_(slope_2, grad_outputs[1])
        return grad, None, None, None, None


def _with_slope(value: Tensor, x: Tensor, slope: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return value
    found: Tensor = _WithSlope.apply(x, value, slope)
    return found


def _full_precision(device_type: str) -> AbstractContextManager[Any]:
    """Switch autocast off, if it is on: that takes longer than a small product."""
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
