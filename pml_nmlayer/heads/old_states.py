"""States that version 0.1.0 saved: their names and options in today's words."""

import json
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

_EXTRA = "_extra_state"
_LEFT = (
    "which is gone. Convert it where version 0.1.0 is installed: load it there, and save "
    "head.fold(), which is made of plain layers, or train anew"
)


def translate(state: dict[str, Any], prefix: str) -> None:
    """Rename what a head of version 0.1.0 saved, in place; leave any other state alone.

    Args:
        state: a state_dict, or the part of one.
        prefix: of the head's entries.

    Raises:
        ValueError: the head was made with an option that is gone.
    """
    if f"{prefix}stage_count" not in state:
        return
    options = _read(state, f"{prefix}{_EXTRA}")
    if options.pop("merge") != "linear":
        raise ValueError(f"this state was saved with merge='tanh', {_LEFT}")
    options.pop("lift")  # is no longer part of the state
    lengths, spare = options["bits"], 0
    for stage, (long, short) in enumerate(pairwise(lengths)):
        layer = f"{prefix}layers.{stage}."
        of_layer = _read(state, layer + _EXTRA)
        spare = of_layer.pop("spare_codewords")
        of_layer.pop("num_classes")
        for name in ("gradient", "scorer"):
            value = of_layer[name]
            if value == "full" or value.startswith(("Complementary", "MergeCost")):
                raise ValueError(f"this state was saved with {name}={value!r}, {_LEFT}")
        of_layer.pop("gradient")
        _write(state, layer + _EXTRA, of_layer)
        _rename(state, layer + "codewords", f"{prefix}classes.codewords_{short}")
        for name in ("sums", "items"):
            old = f"{layer}class_means.{name}"
            _rename(state, old, f"{prefix}class_means.bits_{long}.{name}")
    options["spare_codewords"] = spare
    _write(state, f"{prefix}{_EXTRA}", options)
    _rename(state, f"{prefix}stage_count", f"{prefix}merges.stage_count")
    state.pop(f"{prefix}reopen_count")
    for name in [name for name in state if name.startswith(prefix)]:
        for old, new in (
            ("layers.", "merges.layers."),
            ("classifier.", "classes.classifier."),
        ):
            if name.startswith(prefix + old):
                _rename(state, name, prefix + new + name.removeprefix(prefix + old))


def _rename(state: dict[str, Any], old: str, new: str) -> None:
    if old in state:
        state[new] = state.pop(old)


def _read(state: dict[str, Any], name: str) -> dict[str, Any]:
    options: dict[str, Any] = json.loads(bytes(state[name].tolist()))
    return options


def _write(state: dict[str, Tensor], name: str, options: dict[str, Any]) -> None:
    content = json.dumps(options).encode()
    state[name] = torch.tensor(list(content), dtype=torch.uint8)
