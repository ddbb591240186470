"""First codes for given vectors: principal components, rotated towards signs."""

import torch
from torch import Tensor

_ROUNDS = 30


def rotated_components(vectors: Tensor, bits: int, *, seed: int = 0) -> Tensor:
    """Project vectors to as many outputs as there are bits, so that signs keep most.

    Args:
        vectors: (N, E).
        bits: K; more than the rank are filled with random projections.
        seed: of the first rotation.

    Returns:
        (N, K) float32 with mean square 1, or 0 if all vectors are equal.

    Source:   ITQ (Gong and Lazebnik, CVPR 2011).  Differs: K may exceed the rank.
    """
    generator = torch.Generator().manual_seed(seed)
    centred = (vectors - vectors.mean(0)).double()
    _, basis = torch.linalg.eigh(centred.T @ centred)
    components = centred @ basis.flip(1)[:, :bits]
    if components.shape[1] < bits:
        shape = (components.shape[1], bits)
        spread = torch.randn(shape, generator=generator, dtype=torch.float64)
        projected = components @ spread
    else:
        projected = components @ _rotation_to_signs(components, generator)
    size = projected.square().mean().sqrt()
    return (projected / size.clamp(min=1e-12)).float()


def rotated_towards(outputs: Tensor, others: Tensor) -> Tensor:
    """Rotate outputs so that they agree with others as well as a rotation can.

    Args:
        outputs: (N, K).
        others: (N, K).

    Returns:
        (N, K), the Procrustes solution.

    Example:
        >>> rotated_towards(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])).round()
        tensor([[0., 1.]])
    """
    left, _, right = torch.linalg.svd(outputs.T.double() @ others.double())
    return (outputs.double() @ (left @ right)).float()


def _rotation_to_signs(components: Tensor, generator: torch.Generator) -> Tensor:
    bits = components.shape[1]
    start = torch.randn(bits, bits, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(start)
    for _ in range(_ROUNDS):
        signs = torch.where(components @ rotation >= 0, 1.0, -1.0).double()
        left, _, right = torch.linalg.svd(components.T @ signs)
        rotation = left @ right
    return rotation
