"""What a layer was made with, kept in its state_dict so that no other layer loads it."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

KEY = "_extra_state"  # how torch calls what `get_extra_state` returns


def to_tensor(configuration: Mapping[str, Any]) -> Tensor:
    """Write a configuration as JSON in a uint8 tensor, which any checkpoint format holds.

    Args:
        configuration: names and plain values.
    """
    return torch.tensor(list(json.dumps(configuration).encode()), dtype=torch.uint8)


def check(own: Mapping[str, Any], state: Mapping[str, Any], prefix: str, what: str) -> None:
    """Refuse a state that was saved with another configuration.

    Args:
        own: the configuration of the module that is to load.
        state: a state_dict; without a configuration in it, nothing is compared.
        prefix: of the module's keys.
        what: how the message calls the module.

    Raises:
        ValueError: the difference, option by option.
    """
    if prefix + KEY not in state:
        return
    saved = json.loads(bytes(state[prefix + KEY].tolist()))
    own = json.loads(json.dumps(own))
    names = [n for n in {**saved, **own} if saved.get(n) != own.get(n)]
    if names:
        differences = "; ".join(
            f"{n}: {saved.get(n)!r}, here {own.get(n)!r}" for n in names
        )
        raise ValueError(
            f"this state belongs to a {what} of another configuration: it was saved with "
            f"{differences}. Make the {what} with the saved options, or start anew."
        )
