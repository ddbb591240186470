"""Group and weigh bits so that their sums come close to targets."""

import torch
from torch import Tensor

from ..runtime.assignment import assign_columns
from .partition import _ROUNDS, check_group_sizes

_TARGET_RIDGE = 0.1  # a bit's second moment is 1


def groups_for_targets(
    moment: Tensor, agreement: Tensor, max_group: int
) -> tuple[Tensor, Tensor]:
    r"""Cut K bits into groups whose weighted sums come close to given targets.

    Formula:  min over groups, w of  sum over g of E[(t_g - sum over k in g of w_k b_k)²]
              + ridge sum of w_k², a ridge regression in each group, with ridge 0.1. Bits
              are assigned to the targets that they agree with best; then weights are
              solved for, and bits assigned anew by what each would take off the error of a
              group, the other bits given, as long as the sum falls.

    Args:
        moment: S = E[b bᵀ].
        agreement: A = E[b tᵀ].
        max_group: bound on a group's size.

    Shapes:   (K, K), (K, K') -> groups (K,) int64, weights (K,), signed, in the dtype of
              `moment`.
    Returns:  no group is empty. Weights are 0 where bits know nothing of a target.
    Raises:   ValueError: K' not in 1..K, max_group too small for K' groups.
    Source:   this package.  Differs: not in Fu et al.

    Example:
        >>> agreement = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.2, 0.9]])
        >>> groups_for_targets(torch.eye(3), agreement, max_group=2)[0]
        tensor([0, 1, 1])
    """
    bits, targets = agreement.shape
    check_group_sizes(bits, targets, max_group)
    s, a = moment.double().cpu(), agreement.double().cpu()
    own = s.diagonal()[:, None]
    groups = _assign_groups(a.abs(), max_group)
    best = torch.inf, groups, torch.zeros(bits, dtype=torch.float64)
    for _ in range(_ROUNDS):
        weights = _ridge_in_groups(s, a, groups)
        error = -float((weights * a.gather(1, groups[:, None]).squeeze(1)).sum())
        if error >= best[0] - 1e-9:
            break
        best = error, groups, weights
        spread = torch.zeros_like(a).scatter_(1, groups[:, None], weights[:, None])
        missing = a - s @ spread + own * spread  # of each target, without the bit itself
        groups = _assign_groups(missing.square() / (own + _TARGET_RIDGE), max_group)
    _, groups, weights = best
    return groups.to(moment.device), weights.to(moment)


def _assign_groups(gains: Tensor, max_group: int) -> Tensor:
    """Give each bit a group, at most `max_group` to each and at least one."""
    targets = gains.shape[1]
    places = gains.repeat(1, max_group)
    places[:, :targets] += gains.sum() + 1  # so much that one place of each is taken
    return assign_columns(places) % targets


def _ridge_in_groups(moment: Tensor, agreement: Tensor, groups: Tensor) -> Tensor:
    """Solve for all groups at once: bits of other groups do not meet."""
    bits = len(groups)
    same = groups[:, None] == groups[None, :]
    system = moment * same + _TARGET_RIDGE * torch.eye(bits, dtype=moment.dtype)
    return torch.linalg.solve(system, agreement.gather(1, groups[:, None])).squeeze(1)
