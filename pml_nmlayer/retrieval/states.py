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

from ..runtime.checked_load import load_checked
from ..runtime.state_keys import fit_names, misfit, plain_name

FilePath = str | PathLike[str]
Which = Literal["latest", "best"]
State = Mapping[str, Any]


def checksum(*modules: nn.Module) -> str:
    """SHA-256 of parameters, buffers and class names.

    It is the same on every device, and with or without the wrappers of torch.compile and
    DataParallel.

    What a class computes is not seen: change the code of a `forward`, or an option that is
    not in the state, and the checksum stays.

    Args:
        modules: in a fixed order.
    """
    digest = hashlib.sha256()
    for module in modules:
        wrapped = _wrappers(module)
        for name, part in module.named_modules():
            if name not in wrapped:
                kind = type(part).__qualname__
                digest.update(f"{_unwrapped(name, wrapped)}:{kind};".encode())
        for name, value in module.state_dict().items():
            name = _unwrapped(name, wrapped)
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
            (trunk, head), or one file that holds {"trunk": ..., "embedder": ...}. Or a
            checkpoint of Lightning, whose module has these attributes. In both, "head" may
            stand for "embedder".
        which: "latest" or "best" of the checkpoints in a folder.

    Returns:
        (state of the trunk, state of the head).

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: nothing to read there, or a file that is damaged or holds more than
            tensors and plain values.
        TypeError: no path.
    """
    if which not in get_args(Which):
        raise ValueError(f"which must be 'latest' or 'best', got {which!r}")
    if not isinstance(path, str | PathLike):
        paths = list(path) if isinstance(path, list | tuple) else []
        if len(paths) != 2 or not all(isinstance(p, str | PathLike) for p in paths):
            raise TypeError(f"path must be one path, or two (trunk, head), got {path!r}")
        trunk, head = paths
        return _read(Path(trunk)), _read(Path(head))
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    if path.is_dir():
        suffix = _newest(path, which)
        return _read(path / f"trunk_{suffix}.pth"), _read(path / f"embedder_{suffix}.pth")
    states = _read(path)
    if isinstance(states.get("state_dict"), Mapping) and "trunk" not in states:
        return _of_lightning(states["state_dict"], path)
    names = [name for name in ("embedder", "head") if name in states]
    if "trunk" not in states or len(names) != 1:
        raise ValueError(
            f"{path} must hold 'trunk' and one of 'embedder' and 'head', it holds "
            f"{sorted(map(str, states))}"
        )
    for key in ("trunk", names[0]):
        if not isinstance(states[key], Mapping):
            raise ValueError(f"{path} must hold a state dict as {key!r}")
    return states["trunk"], states[names[0]]


def load_state(module: nn.Module, state: State, name: str) -> None:
    """Load a state strictly, whatever wrappers it was saved under or is loaded into.

    Those are torch.compile, DataParallel and DDP, and a module around the whole.

    Args:
        module: what to load it into, in place.
        state: a state dict.
        name: how a message calls the module.

    Raises:
        ValueError: names or shapes differ; the message lists them.
    """
    fitting = fit_names(state, module)
    try:
        module.load_state_dict(state if fitting is None else fitting, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"the checkpoint does not fit the {name}: {error}"
            + (f" ({misfit(state, module)})" if fitting is None else "")
        ) from error


def _of_lightning(state: State, path: Path) -> tuple[State, State]:
    """Trunk and head out of the state of a LightningModule."""
    places = {_parent(key, "trunk") for key in state} - {None}
    if len(places) == 1:
        (parent,) = places
        for name in ("embedder", "head"):
            head = _part(state, f"{parent}{name}.")
            if head:
                return _part(state, f"{parent}trunk."), head
    raise ValueError(
        f"{path} is a checkpoint of Lightning without one 'trunk' and beside it one "
        "'embedder' or 'head'; save {'trunk': module.TRUNK.state_dict(), 'embedder': "
        "module.HEAD.state_dict()} of it. It has "
        f"{sorted({key.split('.')[0] for key in state})}"
    )


def _parent(key: str, name: str) -> str | None:
    parts = key.split(".")
    if name not in parts[:-1]:
        return None
    return "".join(f"{part}." for part in parts[: parts.index(name)])


def _part(state: State, prefix: str) -> State:
    return {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix)
    }


def _wrappers(module: nn.Module) -> set[str]:
    """Names of parts that only wrap another part."""
    kinds = ("OptimizedModule", "DataParallel", "DistributedDataParallel")
    parts = module.named_modules()
    return {name for name, part in parts if type(part).__name__ in kinds}


def _unwrapped(name: str, wrapped: set[str]) -> str:
    return plain_name(name) if wrapped else name


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
    state = load_checked(file)
    if not isinstance(state, Mapping):
        raise ValueError(f"{file} must hold a dict, it holds {type(state).__name__}")
    return state
