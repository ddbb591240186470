"""Heads of plain layers: how long their codes are, and how to write them down."""

from collections import OrderedDict
from typing import Any

from torch import nn

from ..classes.served import LabelReadout, Readout

# What a folded head consists of, and what else a plain head may.
LAYERS: dict[str, type[nn.Module]] = {
    cls.__name__: cls
    for cls in (
        nn.Linear,
        nn.Tanh,
        nn.ReLU,
        nn.Identity,
        LabelReadout,
        Readout,
        nn.Sequential,
    )
}

_WIDTHS = ("out_features", "in_features")


def flatten(head: nn.Module) -> list[nn.Module]:
    """List the layers of a (nested) Sequential in order; any other module is one layer.

    Args:
        head: a module.
    """
    if type(head) is not nn.Sequential:
        return [head]
    return [layer for part in head for layer in flatten(part)]


def code_length(head: nn.Module) -> int | None:
    """Width of what a head of known layers returns; None if that takes a forward pass.

    Args:
        head: a module.
    """
    layers = [each.words if isinstance(each, Readout) else each for each in flatten(head)]
    if any(type(layer) not in LAYERS.values() for layer in layers):
        return None
    widths = [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
    return widths[-1] if widths else None


def describe(layer: nn.Module) -> dict[str, Any]:
    """Write down a layer, without its weights; if it has parts, with a description of each.

    Args:
        layer: one of LAYERS.

    Raises:
        ValueError: it is, or holds, a layer of another kind.
    """
    if type(layer) not in LAYERS.values():
        raise ValueError(
            f"save_pretrained writes heads of {', '.join(LAYERS)}, this one has "
            f"{type(layer).__name__}; save its state_dict yourself"
        )
    description: dict[str, Any] = {"type": type(layer).__name__}
    if isinstance(layer, nn.Linear):
        description["in_features"] = layer.in_features
        description["out_features"] = layer.out_features
        description["bias"] = layer.bias is not None
    parts = layer.named_children()
    return description | {name: describe(part) for name, part in parts}


def build(description: dict[str, Any]) -> nn.Module:
    """Make a layer from what `describe` wrote.

    Args:
        description: "type", and the options or parts of that type.

    Raises:
        ValueError: no description, an unknown type, or options that it does not have.
    """
    if not isinstance(description, dict):
        raise ValueError(f"a layer must be described by a dict, got {description!r}")
    options = {
        key: build(value) if isinstance(value, dict) else value
        for key, value in description.items()
    }
    name = options.pop("type", None)
    if not isinstance(name, str) or name not in LAYERS:
        raise ValueError(f"unknown layer type {name!r}, known: {', '.join(LAYERS)}")
    if name == "Linear":
        _check_linear(options)
    try:
        if name == "Sequential":
            return nn.Sequential(OrderedDict(options))
        return LAYERS[name](**options)
    except TypeError as error:
        raise ValueError(f"wrong description of a {name}: {error}") from error


def count_numbers(description: Any) -> int:
    """How many parameters the Linear layers of a description have.

    Args:
        description: what `describe` wrote, or a list of such.
    """
    if isinstance(description, list):
        return sum(count_numbers(part) for part in description)
    if not isinstance(description, dict):
        return 0
    own = 0
    if description.get("type") == "Linear":
        _check_linear(description)
        rows, columns = (description.get(name, 0) for name in _WIDTHS)
        own = rows * (columns + bool(description.get("bias", True)))
    return own + sum(count_numbers(part) for part in description.values())


def _check_linear(options: dict[str, Any]) -> None:
    widths = [options[name] for name in _WIDTHS if name in options]
    bias = options.get("bias", True)
    if (
        any(type(n) is not int or not 0 < n < 2**31 for n in widths)
        or type(bias) is not bool
    ):
        raise ValueError(f"wrong description of a Linear: {options}")
