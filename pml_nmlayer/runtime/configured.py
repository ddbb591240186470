"""What a layer was made with, kept in its state_dict so that no other layer loads it."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_KEY = "_extra_state"  # how torch calls what `get_extra_state` returns


class Configured(nn.Module):
    """Base of modules whose state refuses to be loaded by another kind of module.

    The configuration is saved as JSON in a uint8 tensor, which any checkpoint format holds.
    Those of all parts are compared before the first number is loaded.
    """

    @property
    def configuration(self) -> dict[str, Any]:
        """Names and plain values that decide whether a state fits."""
        raise NotImplementedError

    def get_extra_state(self) -> Tensor:
        """For state_dict: the configuration."""
        content = json.dumps(self.configuration).encode()
        return torch.tensor(list(content), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """For load_state_dict, which has compared it before anything was loaded."""

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        for name, module in self.named_modules():
            key = f"{prefix}{name}.{_KEY}" if name else prefix + _KEY
            if isinstance(module, Configured) and key in state_dict:
                module._check(json.loads(bytes(state_dict[key].tolist())))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _check(self, saved: Mapping[str, Any]) -> None:
        own = json.loads(json.dumps(self.configuration))
        names = [n for n in {**saved, **own} if saved.get(n) != own.get(n)]
        if names:
            kind = type(self).__name__
            differences = "; ".join(
                f"{n}: {saved.get(n)!r}, here {own.get(n)!r}" for n in names
            )
            raise ValueError(
                f"this state belongs to a {kind} of another configuration: it was saved "
                f"with {differences}. Use the saved options, or start anew."
            )
