"""Which width a wrapped loss was made for."""

from pytorch_metric_learning.losses import CrossBatchMemory
from torch import Tensor, nn

from .base_centre_loss import BaseCentreLoss


def needs_constant_width(loss: nn.Module, width: int) -> bool:
    """Tell whether a loss has vectors or memories of embeddings; refuse another width.

    Looked at are parameters and memories of two dimensions, of the loss and of all that is
    in it. One dimension of these counts classes, proxies or items.

    Args:
        loss: any PML loss, wrappers included.
        width: of the embeddings that it will get, bits[0] of a head.

    Returns:
        Whether it has any.

    Raises:
        ValueError: it was made for another width.
    """
    found = False
    for name, module in loss.named_modules():
        if isinstance(module, BaseCentreLoss):
            found |= not module.takes_shorter
            continue
        for own, values in _of_embedding_width(module):
            sizes = _without_classes(module, list(values.shape))
            if width not in sizes:
                place = f"{type(module).__name__}.{own}" + (f" ({name})" if name else "")
                raise ValueError(
                    f"{place} has shape {tuple(values.shape)}, but the head begins with "
                    f"{width} bits: make the loss with embedding_size={width}, or the head "
                    f"with bits=({sizes[-1]}, ...). After a merge outputs keep the width "
                    "of the longest code"
                )
            found = True
    return found


def _of_embedding_width(module: nn.Module) -> list[tuple[str, Tensor]]:
    values = list(module.named_parameters(recurse=False))
    if isinstance(module, CrossBatchMemory):
        values.append(("embedding_memory", module.embedding_memory))
    return [(name, value) for name, value in values if value.ndim == 2]


def _without_classes(module: nn.Module, sizes: list[int]) -> list[int]:
    """Leave out the dimension that is known to count classes (or their centres)."""
    classes = getattr(module, "num_classes", None)
    if classes is not None:
        centres = classes * getattr(module, "centers_per_class", 1)
        for count in (centres, classes):
            if count in sizes and len(sizes) > 1:
                sizes.remove(count)
                break
    if isinstance(module, CrossBatchMemory):
        sizes = sizes[1:]
    return sizes
