"""The objective: codes rank neighbours as the teacher does."""

import torch
from torch import Tensor

TEACHER_TEMPERATURE = 0.2
CODE_TEMPERATURE = 0.2


def neighbour_distribution_loss(
    outputs: Tensor,
    teacher: Tensor,
    *,
    teacher_temperature: float = TEACHER_TEMPERATURE,
    code_temperature: float = CODE_TEMPERATURE,
) -> Tensor:
    r"""Compare whom each item of a batch ranks first with whom the teacher ranks first.

    Formula:  mean over i of -sum over j != i of p_ij log q_ij,
              p = softmax over j of ⟨e_i, e_j⟩ / τ,
              q = softmax over j of ⟨tanh u_i, tanh u_j⟩ / (K τ').

    Args:
        outputs: (B, K) real outputs u.
        teacher: (B, E) teacher embeddings e of unit length.
        teacher_temperature: τ.
        code_temperature: τ'.

    Returns:
        0-d, in nats an item; 0 for fewer than two items.

    Source:   listwise distillation, as in ListNet (Cao et al., ICML 2007).
              Differs: lists are batches, scores are inner products of soft codes.

    Example:
        >>> one = torch.ones(2, 3)
        >>> neighbour_distribution_loss(one, one).abs().item()  # one other: no choice
        0.0
    """
    if len(outputs) < 2:
        return outputs.sum() * 0
    others = ~torch.eye(len(outputs), dtype=torch.bool, device=outputs.device)
    codes = outputs.tanh()
    wanted = _off_diagonal(teacher @ teacher.T, others) / teacher_temperature
    got = _off_diagonal(codes @ codes.T, others) / (codes.shape[1] * code_temperature)
    return -(wanted.softmax(1) * got.log_softmax(1)).sum(1).mean()


def _off_diagonal(square: Tensor, others: Tensor) -> Tensor:
    return square[others].view(len(square), len(square) - 1)
