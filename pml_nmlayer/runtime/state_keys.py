"""States saved under a wrapper, for modules without it, and the other way round."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

# What torch.compile, DataParallel, DDP, FSDP and activation checkpointing put into names
_WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def fit_names(state: Mapping[str, Any], module: nn.Module) -> dict[str, Any] | None:
    """Rename the entries of a state so that they are those of a module.

    Names of wrappers are dropped or added, and so is a prefix that all names share, such as
    the one of an attribute of a LightningModule.

    Args:
        state: a state dict.
        module: what is going to load it.

    Returns:
        The state with the names of the module; None where no renaming gives them.
    """
    wanted = list(module.state_dict())
    if set(wanted) == state.keys():
        return dict(state)
    plain = _by_plain_name(wanted)
    found = _by_plain_name(state)
    while plain is not None and found is not None:
        if plain.keys() == found.keys():
            return {plain[name]: state[key] for name, key in found.items()}
        if len({name.split(".", 1)[0] for name in found}) != 1 or not all(
            "." in name for name in found
        ):
            return None
        found = {name.split(".", 1)[1]: key for name, key in found.items()}
    return None


def misfit(state: Mapping[str, Any], module: nn.Module) -> str:
    """Say which names differ, and what to do.

    Args:
        state: a state dict that does not fit.
        module: what was going to load it.
    """
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in state]
    surplus = [name for name in state if name not in wanted]
    return (
        f"missing: {_some(missing)}; not expected: {_some(surplus)}. If it was saved as a "
        "part of a larger model, pass that part: {name.removeprefix(PREFIX): value for "
        "name, value in state.items() if name.startswith(PREFIX)}"
    )


def plain_name(name: str) -> str:
    """Leave the wrappers out of a name in a state.

    Args:
        name: with dots.
    """
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _by_plain_name(names: Iterable[str]) -> dict[str, str] | None:
    plain = {plain_name(name): name for name in names}
    return plain if len(plain) == len(list(names)) else None


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "") or "none"
