"""Re-ranking by the distance of a real-valued query and a binary code."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .code_table import CodeTable
from .row_ids import Ids

Reals = npt.NDArray[np.float64]

_CELLS = 2**22  # bound on the temporaries: queries * candidates * bits


def real_queries(embeddings: Any, bits: int) -> Tensor:
    """Check real outputs.

    Args:
        embeddings: tensor or array.
        bits: code length K in bits.

    Shapes:   (Q, K) -> (Q, K) float64 on the CPU.
    Raises:   ValueError: another shape, or NaN or infinite values.
              TypeError: neither tensor nor array, or a boolean, unsigned or complex dtype.
    """
    if not isinstance(embeddings, Tensor | np.ndarray):
        raise TypeError(
            f"queries must be a tensor or an array of shape (Q, {bits}), got "
            f"{type(embeddings).__name__}"
        )
    if isinstance(embeddings, np.ndarray):
        wrong = embeddings.dtype.kind not in "fi"
    else:
        unsigned = (torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64)
        wrong = embeddings.is_complex() or embeddings.dtype in unsigned
    if wrong:
        raise TypeError(
            f"queries must be real outputs around 0, got {embeddings.dtype}; codes go to "
            "search"
        )
    if isinstance(embeddings, np.ndarray):
        embeddings = torch.tensor(embeddings)
    u = embeddings.detach().cpu().double()
    if u.ndim != 2 or u.shape[1] != bits:
        raise ValueError(
            f"queries must be real outputs of shape (Q, {bits}), got {tuple(u.shape)}"
        )
    broken = int((~u.isfinite()).sum())
    if broken:
        raise ValueError(f"queries must be finite, got {broken} NaN or infinite values")
    return u


def rerank(u: Reals, ids: Ids, table: CodeTable, k: int) -> tuple[Reals, Ids]:
    """Keep the k candidates with the smallest a(u, b), by a, then by id.

    a(u, b) = sum over k of |u_k| [sign(u_k) != b_k]; see `HashIndex`.

    Args:
        u: real outputs (Q, K).
        ids: candidates (Q, C), C >= k; -1 for none.
        table: where their codes are.
        k: number of neighbours.

    Returns:
        (a (Q, k), ids (Q, k)); inf and -1 where there is none.
    """
    step = max(_CELLS // (ids.shape[1] * u.shape[1]), 1)
    blocks = [slice(i, i + step) for i in range(0, len(u), step)]
    a = np.full(ids.shape, np.inf)
    for block in blocks if len(table) else []:
        a[block] = _distances(u[block], ids[block], table)
    order = np.lexsort((ids, a))[:, :k]
    return np.take_along_axis(a, order, axis=1), np.take_along_axis(ids, order, axis=1)


def _distances(u: Reals, ids: Ids, table: CodeTable) -> Reals:
    none = ids < 0
    rows = table.codes_of(np.where(none, table.sorted()[0][0], ids))
    ones = np.unpackbits(rows, axis=2, count=u.shape[1])
    mismatch = ones != (u >= 0)[:, None, :]
    a = np.matmul(mismatch.astype(np.float64), np.abs(u)[:, :, None])[:, :, 0]
    return np.where(none, np.inf, a)
