"""What goes wrong in a training from the start, said at the first step."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from ..layers import ProgressiveHead
from ..losses.nm_loss import NMLoss


def check_trainer(head: ProgressiveHead, trainer: Any) -> None:
    """Refuse a PML trainer in which a head would not be trained, or never merge.

    Args:
        head: with merges to come.
        trainer: a PML trainer; one without optimizers or losses is taken as it is.

    Raises:
        RuntimeError: no optimizer holds the head, its `NMLoss` is in eval mode, or there is
            none and nothing was observed.
    """
    optimizers = getattr(trainer, "optimizers", None)
    if isinstance(optimizers, Mapping):
        check_optimizers(head, optimizers.values())
    losses = getattr(trainer, "loss_funcs", None)
    if head.finished or not isinstance(losses, Mapping):
        return
    found = [
        loss
        for each in losses.values()
        if isinstance(each, nn.Module)
        for loss in nm_losses(head, each).values()
    ]
    check_mode(found)
    if not found and head.stage == 0 and head.current_layer.graph.seen_batches == 0:
        raise RuntimeError(
            "no loss of the trainer is an NMLoss around this head, and the head has "
            "observed nothing: use loss_funcs={'metric_loss': NMLoss(loss, head)} with the "
            "head that is merged, not a copy"
        )


def nm_losses(head: ProgressiveHead, module: nn.Module) -> dict[str, NMLoss]:
    """Find the losses by which a head observes, by their names.

    Args:
        head: the head.
        module: a loss, or what holds losses.
    """
    return {
        name: each
        for name, each in module.named_modules()
        if isinstance(each, NMLoss) and each.head is head
    }


def check_mode(losses: Sequence[NMLoss]) -> None:
    """Refuse losses of which none is in training mode.

    Args:
        losses: around one head; none at all is no fault.

    Raises:
        RuntimeError: all are in eval mode, in which nothing is observed.
    """
    if losses and not any(loss.training for loss in losses):
        raise RuntimeError(
            "the NMLoss around the head is in eval mode, so the graph sees no usable batch "
            "and no merge can follow: take it out of freeze_these, or call train()"
        )


def check_optimizers(
    head: ProgressiveHead, optimizers: Iterable[Any], model: nn.Module | None = None
) -> None:
    """Refuse optimizers that leave a head as it is.

    Args:
        head: what is to be trained.
        optimizers: all of the training.
        model: what holds the head. Where optimizers know none of its parameters, they
            train copies, as some strategies of Lightning do; nothing is refused then.

    Raises:
        RuntimeError: none of them holds a parameter of the head that needs a gradient.
    """
    held = {
        id(parameter)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    if model is not None and not any(id(each) in held for each in model.parameters()):
        return
    own = [parameter for parameter in head.parameters() if parameter.requires_grad]
    if own and not any(id(parameter) in held for parameter in own):
        raise RuntimeError(
            "no optimizer holds the parameters of this head, so it would stay as it was "
            "made: give one, such as optimizers={'embedder_optimizer': "
            "Adam(head.parameters())}, made of the head that is merged. A head that is to "
            "stay needs requires_grad_(False)"
        )
