"""What a head puts out for a loss: outputs, and what belongs to the same rows."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor


class HeadOutputs(NamedTuple):
    """Outputs of a head, and what a loss needs to know about the same items.

    `head.outputs(x)` returns it, and `NMLoss` takes it in the place of embeddings.
    """

    embeddings: Tensor
    """(B, K) outputs of the present code, or of constant width."""
    class_scores: Tensor | None = None
    """(B, C) of the classifier, before softmax; None without a classifier."""
    longer: tuple[Tensor, ...] = ()
    """Outputs of the longer codes, from the longest on, with longer="joint"."""


class Layout(NamedTuple):
    """How the columns of carried outputs are divided, and when they were made."""

    stage: int
    bits: int
    classes: int
    longer: tuple[int, ...]
    changed: bool = False
    """Whether embeddings were changed in place, so that they are the head's no more."""

    @property
    def width(self) -> int:
        """Number of columns in memory."""
        return self.bits + self.classes + sum(self.longer)


class CarriedOutputs(Tensor):
    """Outputs (B, K) whose rows carry class scores and outputs of longer codes with them.

    PML's trainers pass one tensor from the embedder to the loss. This one looks like the
    embeddings to every function of torch. Its memory holds one wide row an item: the
    embedding, and what belongs to the same item. Whatever moves rows (indexing, `cat`,
    `stack`, `split`, `clone`, `detach`, `to`, ...) moves wide rows, so nothing has to be
    found again. So do autograd, checkpointing and DistributedDataParallel, which see the
    wide tensor. Whatever computes with the embeddings gets and returns plain tensors.
    Embeddings that are changed in place carry nothing from then on. Outputs of several
    heads may stand side by side (`cat` along columns); the columns of one are its outputs.

    Shapes:   (B, K) to the eye, (B, W) in memory. `grad` is that of the wide tensor.
    """

    carried: tuple[Layout, ...]
    """One layout a head."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if func in _OF_THE_WIDE_TENSOR or _is_collective(func):
                return func(*args, **kwargs)
            in_place = _changes_in_place(func) or kwargs.get("inplace")
            if in_place and isinstance(args[0], CarriedOutputs):
                args[0].carried = tuple(
                    layout._replace(changed=True) for layout in args[0].carried
                )
            if (columns := _columns(func, args, kwargs)) is not None:
                return columns
            narrow = func(*_each(args, _narrow), **_each(kwargs, _narrow))
            if func not in _MOVES_ROWS:
                return narrow
            first, *others = [*_layouts(args), *_layouts(kwargs)]
            if first is None or any(layout != first for layout in others):
                return narrow  # of several origins
            try:
                wide = func(*_each(args, _wide), **_each(kwargs, _wide))
            except (IndexError, RuntimeError):
                return narrow  # an index into the columns
            return _as_carried(narrow, wide, first)


def carry(outputs: HeadOutputs, stage: int) -> Tensor:
    """Put outputs into one tensor that looks like the embeddings.

    Args:
        outputs: of one forward pass.
        stage: number of merges that the head had made.

    Returns:
        `CarriedOutputs`, or plain embeddings where there is nothing to carry.
    """
    parts = [outputs.embeddings, *outputs.longer]
    if outputs.class_scores is not None:
        parts.insert(1, outputs.class_scores)
    if len(parts) == 1:
        return outputs.embeddings
    classes = 0 if outputs.class_scores is None else outputs.class_scores.shape[1]
    longer = tuple(each.shape[1] for each in outputs.longer)
    layout = Layout(stage, outputs.embeddings.shape[1], classes, longer)
    return _marked(torch.cat(parts, 1), (layout,))


def unpack(embeddings: Tensor | HeadOutputs) -> tuple[HeadOutputs, int | None]:
    """Take outputs apart again.

    Args:
        embeddings: what a head returned, also after its rows were moved.

    Returns:
        The outputs, as plain tensors, and the stage in which they were made. None stands
        for a stage that nobody knows.
    """
    if isinstance(embeddings, HeadOutputs):
        return embeddings, None
    if not isinstance(embeddings, CarriedOutputs):
        return HeadOutputs(embeddings), None
    if len(embeddings.carried) > 1:
        return HeadOutputs(embeddings + 0), None  # of several heads
    (layout,) = embeddings.carried
    with torch._C.DisableTorchFunctionSubclass():
        widths = [layout.bits, layout.classes, *layout.longer]
        own, scores, *longer = embeddings[...].split(widths, dim=-1)
    if layout.changed:
        return HeadOutputs(own), layout.stage
    scores = scores if layout.classes else None
    return HeadOutputs(own, scores, tuple(longer)), layout.stage


def _marked(wide: Tensor, layouts: tuple[Layout, ...]) -> Tensor:
    marked = wide.as_subclass(CarriedOutputs)
    marked.carried = layouts
    return marked


def _as_carried(narrow: Any, wide: Any, layouts: tuple[Layout, ...]) -> Any:
    """Mark what still has whole rows; anything else is what it looks like."""
    if isinstance(narrow, Tensor):
        widths = sum(each.bits for each in layouts), sum(each.width for each in layouts)
        whole = (
            narrow.ndim > 0
            and narrow.shape[:-1] == wide.shape[:-1]
            and (narrow.shape[-1], wide.shape[-1]) == widths
        )
        return _marked(wide, layouts) if whole else narrow
    pairs = zip(narrow, wide, strict=True)
    return type(narrow)(_as_carried(*pair, layouts) for pair in pairs)


def _columns(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Put outputs of heads side by side, or take those of one; None for anything else."""
    if func in (torch.cat, torch.concat, torch.concatenate):
        parts, *dim = args
        both = all(isinstance(part, CarriedOutputs) and part.dim() == 2 for part in parts)
        if both and (dim[0] if dim else kwargs.get("dim", 0)) in (1, -1):
            layouts = tuple(layout for part in parts for layout in part.carried)
            return _marked(torch.cat([_wide(part) for part in parts], 1), layouts)
    elif func is Tensor.__getitem__ and len(args[0].carried) > 1:
        outputs, place = args
        first, start = 0, 0
        for layout in outputs.carried:
            if place == (slice(None), slice(first, first + layout.bits)):
                return _marked(outputs[:, start : start + layout.width], (layout,))
            first, start = first + layout.bits, start + layout.width
    return None


def _each(value: Any, change: Callable[[CarriedOutputs], Tensor]) -> Any:
    """Change all carried outputs in (nested) arguments."""
    if isinstance(value, CarriedOutputs):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)([_each(each, change) for each in value])
    if type(value) is dict:
        return {name: _each(each, change) for name, each in value.items()}
    return value


def _layouts(value: Any) -> Iterator[tuple[Layout, ...] | None]:
    """List the layouts of carried outputs; None for other rows of real numbers."""
    if isinstance(value, CarriedOutputs):
        yield value.carried
    elif isinstance(value, Tensor):
        if value.is_floating_point():
            yield None
    elif type(value) in (tuple, list):
        for each in value:
            yield from _layouts(each)
    elif type(value) is dict:
        yield from _layouts(list(value.values()))


def _narrow(outputs: CarriedOutputs) -> Tensor:
    if len(outputs.carried) == 1:
        return outputs[..., : outputs.carried[0].bits]
    parts = outputs[...].split([layout.width for layout in outputs.carried], dim=-1)
    pairs = zip(parts, outputs.carried, strict=True)
    return torch.cat([part[..., : layout.bits] for part, layout in pairs], -1)


def _wide(outputs: CarriedOutputs) -> Tensor:
    return outputs[...]


def _is_collective(func: Callable[..., Any]) -> bool:
    """Whether a function sends tensors between processes: it has to send wide rows."""
    name = getattr(func, "_qualified_op_name", None) or getattr(func, "__module__", None)
    return str(name).startswith(("c10d", "torch.distributed"))


def _changes_in_place(func: Callable[..., Any]) -> bool:
    name = getattr(func, "__name__", "")
    return name in _IN_PLACE_OPERATORS or (name.endswith("_") and name[-2:] != "__")


_IN_PLACE_OPERATORS = {
    "__iadd__",
    "__iand__",
    "__idiv__",
    "__imul__",
    "__ipow__",
    "__isub__",
    "__itruediv__",
    "__setitem__",
}
_TENSOR: Any = Tensor  # whose attributes are descriptors, unlike their annotations
# What is asked of, or done to, the tensor that autograd knows.
_OF_THE_WIDE_TENSOR = {
    Tensor.backward,
    _TENSOR.device.__get__,
    _TENSOR.dtype.__get__,
    _TENSOR.grad.__get__,
    _TENSOR.grad.__set__,
    _TENSOR.grad_fn.__get__,
    Tensor.is_floating_point,
    _TENSOR.is_leaf.__get__,
    Tensor.register_hook,
    _TENSOR.requires_grad.__get__,
    _TENSOR.requires_grad.__set__,
    Tensor.requires_grad_,
    Tensor.retain_grad,
}
# What leaves whole rows of its first arguments as they are; `_as_carried` looks again.
_MOVES_ROWS = {
    torch.cat,
    torch.chunk,
    torch.clone,
    torch.concat,
    torch.concatenate,
    torch.detach,
    torch.empty_like,
    torch.flatten,
    torch.index_select,
    torch.narrow,
    torch.ones_like,
    torch.split,
    torch.stack,
    torch.tensor_split,
    torch.unbind,
    torch.vstack,
    torch.zeros_like,
    Tensor.__getitem__,
    Tensor.bfloat16,
    Tensor.chunk,
    Tensor.clone,
    Tensor.contiguous,
    Tensor.cpu,
    Tensor.cuda,
    Tensor.detach,
    Tensor.double,
    Tensor.flatten,
    Tensor.float,
    Tensor.half,
    Tensor.index_select,
    Tensor.narrow,
    Tensor.repeat_interleave,
    Tensor.split,
    Tensor.tensor_split,
    Tensor.to,
    Tensor.unbind,
}
