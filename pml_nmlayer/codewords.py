"""Codes and classes: codewords that are learned, and what tells classes from codes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .codebooks import check_codebook_size, maximin_codebook
from .codes import raw_sign
from .process_group import add_up
from .similarity import check_labels, class_rows

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


def assign_columns(gains: Tensor) -> Tensor:
    """Give every row a column of its own, so that the sum of gains is largest.

    Args:
        gains: (R, N) with R <= N, on the CPU.

    Returns:
        (R,) int64.
    """
    from scipy.optimize import linear_sum_assignment  # takes a while to import

    _, columns = linear_sum_assignment(gains.numpy(), maximize=True)
    return torch.as_tensor(columns)


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


class ClassMeans(nn.Module):
    r"""Running mean code of each class.

    Formula:  m_c = mean of b over the items of class c. After every batch all items seen so
              far are weighed down to `memory` items together, if they were more.

    Args:
        num_classes: C.
        bits: K.
        memory: number of items after which old ones start to be forgotten.

    Shapes:   buffers sums (C, K) and items (C,) keep their shapes for life.
    Raises:   ValueError: num_classes, bits or memory < 1.
    Source:   this package.  Differs: codes are averaged, not real outputs.
    """

    sums: Tensor
    items: Tensor

    def __init__(self, num_classes: int, bits: int, memory: int = 10_000) -> None:
        super().__init__()
        if min(num_classes, bits, memory) < 1:
            raise ValueError(
                "num_classes, bits and memory must be at least 1, got "
                f"num_classes={num_classes}, bits={bits}, memory={memory}"
            )
        self.num_classes = num_classes
        self.memory = memory
        self.register_buffer("sums", torch.zeros(num_classes, bits))
        self.register_buffer("items", torch.zeros(num_classes))

    @torch.no_grad()
    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Take in one batch, without synchronising with the device.

        A batch that holds NaN or inf is left out. In a torch process group every process
        has to make the call: the batch is then what all of them have together.

        Args:
            outputs: (B, K), codes or real outputs (their signs count); B may be 0.
            labels: class ids (B,) from 0 to C - 1, or multi-hot rows (B, C).

        Raises:
            ValueError: labels that do not fit.
        """
        check_labels(labels, outputs.shape[0])
        rows = class_rows(labels, self.num_classes).to(self.sums)
        unsound = (~outputs.sum(dtype=torch.float32).isfinite()).to(self.sums)
        with torch.autocast(rows.device.type, enabled=False):
            sums = rows.T @ raw_sign(outputs.to(self.sums))
        sums, items, unsound = add_up(sums, rows.sum(0), unsound)
        sound = (unsound == 0).to(sums)
        self.sums.add_(sums * sound)
        self.items.add_(items * sound)
        factor = self.memory / self.items.sum().clamp(min=self.memory)
        self.sums.mul_(factor)
        self.items.mul_(factor)

    @property
    def mean(self) -> Tensor:
        """Means (C, K); 0 for a class not seen."""
        return self.sums / self.items.clamp(min=1e-12)[:, None]

    def agreement(self, codewords: Tensor) -> Tensor:
        """E[b tᵀ] (K, K') of bits b and the codewords t (C, K') of their classes.

        An item of several classes counts for each; 0 before any item.
        """
        return self.sums.T @ codewords / self.items.sum().clamp(min=1e-12)

    def reset(self) -> None:
        """Forget everything."""
        self.sums.zero_()
        self.items.zero_()
