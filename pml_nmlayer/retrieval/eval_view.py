"""A module in eval mode for one caller, whatever mode others see it in."""

import functools
import types
from typing import Any

import torch
from torch import nn


def eval_view(module: nn.Module) -> nn.Module:
    """Give a module that computes in eval mode, without a change of the module.

    A module whose parts are all in eval mode is returned itself. Otherwise its tree is
    made anew, each part with a mode of its own, around the same parameters and buffers.
    So several threads can use one module, also while its owner has it in training mode.

    Args:
        module: with parts in any mode.

    Raises:
        ValueError: a part in training mode that cannot be made anew. It is TorchScript, or
            it keeps a method of its own, so that the new part would call the old.
    """
    if not any(part.training for part in module.modules()):
        return module
    return _view(module, {})


def _view(module: nn.Module, made: dict[int, nn.Module]) -> nn.Module:
    if id(module) in made:
        return made[id(module)]
    original = getattr(module, "_orig_mod", None)
    if isinstance(original, nn.Module):  # torch.compile's wrapper calls the old part
        made[id(module)] = _view(original, made)
        return made[id(module)]
    bound = [name for name, value in vars(module).items() if _keeps_module(value)]
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    is_method = (types.MethodType, functools.partial)  # other hooks may know a part
    bound += ["a hook" for h in hooks if isinstance(h, is_method) and _keeps_module(h)]
    if isinstance(module, torch.jit.ScriptModule) or bound:
        kind = type(module).__name__
        why = f"{bound[0]} is bound to it" if bound else "it is compiled TorchScript"
        raise ValueError(
            f"a {kind} in training mode cannot be served ({why}): its mode would have to "
            "be switched for all its users. Call .eval() on the trunk and head first"
        )
    view = type(module).__new__(type(module))
    vars(view).update(vars(module))
    made[id(module)] = view
    vars(view)["training"] = False
    vars(view)["_modules"] = {
        name: None if part is None else _view(part, made)
        for name, part in module._modules.items()
    }
    return view


def _keeps_module(value: Any) -> bool:
    """Whether it is a method of a module, or calls one."""
    if isinstance(value, functools.partial):
        parts = (value.func, *value.args, *value.keywords.values())
        return any(isinstance(part, nn.Module) or _keeps_module(part) for part in parts)
    if isinstance(value, types.FunctionType):
        cells = value.__closure__ or ()
        return any(isinstance(_content(cell), nn.Module) for cell in cells)
    return isinstance(value, types.MethodType) and isinstance(value.__self__, nn.Module)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
