"""Outputs of the width of the code, or of constant width."""

from torch import Tensor


def has_constant_width(embeddings: Tensor, bits: int, constant: int | None) -> bool:
    """Tell whether outputs have constant width; refuse what a head cannot have put out.

    Args:
        embeddings: outputs of a head.
        bits: width of the code that they are said to be of.
        constant: width of all outputs in training; None where it is that of the code.

    Raises:
        ValueError: any other shape.
    """
    if embeddings.ndim == 2 and embeddings.shape[1] == constant:
        return True
    if embeddings.ndim != 2 or embeddings.shape[1] != bits:
        wide = "" if constant in (None, bits) else f" or (B, {constant})"
        raise ValueError(
            f"embeddings must have shape (B, {bits}){wide}, got {tuple(embeddings.shape)}: "
            "pass this head's own outputs. Where a wrapper gathers them as plain tensors "
            "(DataParallel), use DistributedDataParallel"
        )
    return False
