"""States of models: their checksums, and where checkpoints keep them."""

import hashlib
import pickle
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

FilePath = str | PathLike[str]
Which = Literal["latest", "best"]
State = Mapping[str, Any]


def checksum(*modules: nn.Module) -> str:
    """SHA-256 of parameters, buffers and class names, the same on every device.

    What a class computes is not seen: change the code of a `forward`, or an option that is
    not in the state, and the checksum stays.

    Args:
        modules: in a fixed order.
    """
    digest = hashlib.sha256()
    for module in modules:
        for name, part in module.named_modules():
            digest.update(f"{name}:{type(part).__qualname__};".encode())
        for name, value in module.state_dict().items():
            digest.update(f"{name}:".encode())
            if not isinstance(value, Tensor):
                digest.update(pickle.dumps(value, protocol=4))
                continue
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_checkpoint(
    path: FilePath | Sequence[FilePath], which: Which = "latest"
) -> tuple[State, State]:
    """Read the states of a trunk and a head.

    Args:
        path: a folder of PML's HookContainer (trunk_*.pth and embedder_*.pth), two files
            (trunk, head), or one file that holds {"trunk": ..., "embedder": ...}, where
            "head" may stand for "embedder".
        which: "latest" or "best" of the checkpoints in a folder.

    Returns:
        (state of the trunk, state of the head).

    Raises:
        ValueError: nothing to read there, or a file that is damaged or holds more than
            tensors and plain values.
    """
    if which not in get_args(Which):
        raise ValueError(f"which must be 'latest' or 'best', got {which!r}")
    if not isinstance(path, str | PathLike):
        trunk, head = path
        return _read(Path(trunk)), _read(Path(head))
    path = Path(path)
    if path.is_dir():
        suffix = _newest(path, which)
        return _read(path / f"trunk_{suffix}.pth"), _read(path / f"embedder_{suffix}.pth")
    states = _read(path)
    names = [name for name in ("embedder", "head") if name in states]
    if "trunk" not in states or len(names) != 1:
        raise ValueError(
            f"{path} must hold 'trunk' and one of 'embedder' and 'head', it holds "
            f"{sorted(map(str, states))}"
        )
    return states["trunk"], states[names[0]]


def load_state(module: nn.Module, state: State, name: str) -> None:
    """Load a state strictly; the prefix "module." of a wrapped model is dropped.

    Args:
        module: what to load it into, in place.
        state: a state dict.
        name: how a message calls the module.

    Raises:
        ValueError: names or shapes differ; the message lists them.
    """
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(f"the checkpoint does not fit the {name}: {error}") from error


def _newest(folder: Path, which: Which) -> str:
    """The last suffix that trunk and embedder have both: a crash may leave one alone."""
    pattern = re.compile(r"_(best)?(\d+)\.pth$")
    found: dict[str, dict[str, int]] = {"trunk": {}, "embedder": {}}
    for name, epochs in found.items():
        for file in folder.glob(f"{name}_*.pth"):
            match = pattern.fullmatch(file.name[len(name) :])
            if match and bool(match[1]) == (which == "best"):
                epochs[(match[1] or "") + match[2]] = int(match[2])
    both = found["trunk"].keys() & found["embedder"].keys()
    if not both:
        stem = "best<epoch>" if which == "best" else "<epoch>"
        raise ValueError(
            f"{folder} has no pair trunk_{stem}.pth, embedder_{stem}.pth; it has "
            f"{sorted(file.name for file in folder.iterdir())}"
        )
    return max(both, key=found["trunk"].__getitem__)


def _read(file: Path) -> State:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{file} is not a checkpoint of tensors: {error}") from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{file} must hold a dict, it holds {type(state).__name__}")
    return state
