"""How well classes and labels can be told from outputs and bits."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..labels.checks import class_rows


def codeword_nll(outputs: Tensor, targets: Tensor, tanh: bool) -> Tensor:
    r"""Measure how far outputs are from the codes that they should have.

    Formula:  mean over i, k of -log p_ik,  p = ½(1 + t h) with outputs h = tanh u and
              p = 1 / (1 + exp(-2 t u)) with linear ones: the same, as a function of u.

    Args:
        outputs: h or u.
        targets: t, of -1 and +1.
        tanh: whether outputs lie in [-1, 1], as after a tanh.

    Shapes:   (B, K), (B, K) -> 0-d float32.
    Returns:  nats a bit; 0 for an empty batch. At most 13.8 a bit for tanh outputs: one
              that is saturated on the wrong side has no slope left anyway.
    Source:   the first term of CSQ (Yuan et al., CVPR 2020).  Differs: the bound.
    """
    agreement = targets * outputs.float()
    if tanh:
        nll = -torch.log((0.5 * (1 + agreement)).clamp(min=1e-6))
    else:
        nll = F.softplus(-2 * agreement)
    return nll.sum() / max(nll.numel(), 1)


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
    rows = class_rows(labels.to(scores.device), scores.shape[1])
    shares = rows / rows.sum(1, keepdim=True).clamp(min=1)
    nll = -(shares * scores.float().log_softmax(1)).sum()
    return nll / max(len(scores), 1)


def label_map(codes: Tensor, rows: Tensor, ridge: float) -> Tensor:
    r"""Find the linear map that reads the labels of a batch from its codes.

    Formula:  W that makes  mean over i of ‖y_i - W b_i‖² + ridge ‖W‖²  smallest:
              W = (mean of y bᵀ) (mean of b bᵀ + ridge I)⁻¹.

    Args:
        codes: b, of -1 and +1.
        rows: y, multi-hot rows.
        ridge: > 0, no unit; what keeps W small, for any K and any B.

    Shapes:   (B, K), (B, C) -> (C, K), in the dtype of the codes.
    Returns:  W, without gradient; 0 for an empty batch.
    Source:   the closed form of DSDH (Li, Sun, He, Tan, NeurIPS 2017, arXiv:1705.10999).
              Differs: W is that of the batch, not of the whole training set.
    """
    with torch.no_grad():
        share = 1 / max(len(codes), 1)
        gram = share * codes.T @ codes
        gram.diagonal().add_(ridge)
        factor, _ = torch.linalg.cholesky_ex(gram)  # a check of success would wait
        return torch.cholesky_solve(share * codes.T @ rows, factor).T


def label_residual(codes: Tensor, labels: Tensor, num_classes: int, ridge: float) -> Tensor:
    r"""Measure how well the labels of a batch can be read from its codes by a linear map.

    Formula:  mean over i of ‖y_i - W b_i‖²,  W = label_map(b, y, ridge).

    Args:
        codes: b, of -1 and +1, with a gradient if they come from `sign_ste`.
        labels: y, class ids from 0 to C - 1 or multi-hot rows.
        num_classes: C.
        ridge: see `label_map`.

    Shapes:   (B, K), (B,) or (B, C) -> 0-d float32.
    Returns:  squared labels an item; 0 for an empty batch. The gradient takes W as fixed;
              so it is that of the sum with ridge ‖W‖², which is smallest at this W.
    Raises:   ValueError: labels that do not fit.
    Source:   the class term of DSDH, see `label_map`.  Differs: no.

    Example:
        >>> codes = torch.tensor([[1., -1.], [-1., 1.]])
        >>> label_residual(codes, torch.tensor([0, 1]), num_classes=2, ridge=0.5)
        tensor(0.5200)
    """
    with torch.autocast(codes.device.type, enabled=False):
        codes = codes.float()
        rows = class_rows(labels.to(codes.device), num_classes)
        residual = rows - codes @ label_map(codes, rows, ridge).T
        return residual.square().sum() / max(len(codes), 1)
