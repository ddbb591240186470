"""Expected reciprocal rank of the first hit."""

from typing import get_args

import torch
from torch import Tensor

from ..runtime.options import check_choice
from ..runtime.renamed import renamed
from .average_precision import _GRID_CELLS
from .ties import TieOrder, _check_histograms


@renamed()
def tie_aware_reciprocal_rank(
    items: Tensor, hits: Tensor, *, tie_order: TieOrder = "expected"
) -> Tensor:
    r"""One over the rank of the first relevant item, over all orders of tied items.

    Formula:  RR = 1 / rank. If the nearest hits are h of the n items of a tie behind N
              items, the first one stands at place p of the tie with probability
              P(p) = C(n - p, h - 1) / C(n, h), and E[RR] = sum over p of P(p) / (N + p).

    Args:
        items: number of database items at each distance.
        hits: number of relevant items at each distance.
        tie_order: "expected" over all orders, or the "best" or "worst" of them.

    Shapes:   items, hits (Q, K + 1) int64 -> (Q,) float64.
    Returns:  values in (0, 1]; NaN where R = 0. Their mean is the MRR.
    Raises:   ValueError: as `tie_aware_average_precision`.
    Source:   McSherry and Najork, ECIR 2008.  Differs: no.

    Example:
        >>> tie_aware_reciprocal_rank(torch.tensor([[1, 2]]), torch.tensor([[0, 1]]))
        tensor([0.4167], dtype=torch.float64)
    """
    _check_histograms(items, hits)
    check_choice("tie_order", tie_order, get_args(TieOrder))
    first = (hits > 0).int().argmax(1, keepdim=True)
    before = (items.cumsum(1) - items).gather(1, first).double()
    n, h = (x.gather(1, first).double() for x in (items, hits))
    if tie_order == "best":
        value = 1 / (before + 1)
    elif tie_order == "worst":
        value = 1 / (before + n - h + 1)
    elif len(n) == 0:
        value = before
    else:
        width = int((n - h).max()) + 1
        ties = torch.stack([n, h, before]).split(max(_GRID_CELLS // width, 1), 1)
        value = torch.cat([_expected_reciprocal(part, width) for part in ties])
    return torch.where(h > 0, value, torch.nan).squeeze(1)


def _expected_reciprocal(ties: Tensor, width: int) -> Tensor:
    n, h, before = ties
    p = torch.arange(1, width + 1, dtype=torch.float64, device=n.device)
    left = n - p  # items of the tie behind place p
    going_on = ((left - h + 1) / left.clamp(min=1)).clamp(min=0)  # P(p + 1) / P(p)
    at_first = h / n.clamp(min=1)
    probability = torch.cat([at_first, at_first * going_on[:, :-1].cumprod(1)], 1)
    return (probability / (before + p)).sum(1, keepdim=True)
