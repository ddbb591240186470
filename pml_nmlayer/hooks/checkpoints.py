"""Stop a training at any moment, and go on as if it had never stopped."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..runtime.atomic import replacing
from ..runtime.checked_load import load_checked
from .complete_sets import keep_sets_complete, load_part
from .random_state import RandomState as RandomState


def checkpointed(trainer: Any, **objects: Any) -> None:
    """Let PML's HookContainer save and load more than it knows of.

    HookContainer saves what the trainer has in models, optimizers, lr_schedulers,
    loss_funcs and mining_funcs. The objects go into mining_funcs, in which PML looks up its
    own names and nothing else. Call it before training, and before
    `load_latest_saved_models`, with the random state last: this is the order of loading.

    From then on HookContainer saves this trainer's files as one set: a kill leaves the last
    complete set, and loading goes on from it, or refuses if there is none. See
    `complete_sets`.

    Args:
        trainer: a PML trainer.
        objects: by name, each with state_dict and load_state_dict:
            checkpointed(trainer, merging=merging, random_state=RandomState(sampler)).

    Raises:
        ValueError: a name that the trainer uses already.
        TypeError: an object without state_dict or load_state_dict; no trainer.
    """
    if not isinstance(getattr(trainer, "mining_funcs", None), dict):
        raise TypeError(f"checkpointed needs a PML trainer, got {type(trainer).__name__}")
    for name, value in objects.items():
        if name in trainer.mining_funcs:
            raise ValueError(f"the trainer has a {name!r} in mining_funcs already")
        for method in ("state_dict", "load_state_dict"):
            if not hasattr(value, method):
                raise TypeError(f"{name} must have {method}, got {value!r}")
    keep_sets_complete(trainer)
    trainer.mining_funcs.update(objects)


def save_checkpoint(path: str | os.PathLike[str], **parts: Any) -> None:
    """Write everything that a training needs to go on into one file.

    The file is replaced as a whole: a crash or a full disk leaves the old one. Several
    processes may save to one path; the last one to finish wins.

    Args:
        path: of the file; its folder must exist.
        parts: by name: objects with state_dict (their state is saved), dictionaries of them
            (such as trainer.models), or plain values (such as epoch=3): numbers, strings,
            None, which `load_checkpoint` returns.

    Raises:
        TypeError: another kind of value, before anything is written.
        ValueError: nothing to save.
        OSError: it cannot be written; the old file stays.
    """
    if not parts:
        raise ValueError("nothing to save: pass parts by name, such as model=model")
    content = {name: _state(name, part) for name, part in parts.items()}
    with replacing(Path(path)) as file:
        torch.save(content, file)


def load_checkpoint(path: str | os.PathLike[str], **parts: Any) -> dict[str, Any]:
    """Load what `save_checkpoint` wrote into the same objects, on any device.

    Modules may be wrapped (compiled, DataParallel, DDP) on one side and plain on the other.

    Args:
        path: of the file.
        parts: objects with load_state_dict, or dictionaries of them, by the names under
            which they were saved, loaded in this order: the random state comes last.

    Returns:
        The plain values in the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a damaged file, or names in the file and here that do not fit, before
            anything is loaded; or a part that refuses its state.
        TypeError: a part without load_state_dict.
    """
    content = load_checked(Path(path))
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__}, not what save_checkpoint writes"
        )
    states = {name: state for name, state in content.items() if _is_state(state)}
    _check_names(states, parts, str(path))
    for name, part in parts.items():
        _load(part, states[name]["state"])
    return {name: value for name, value in content.items() if name not in states}


def _state(name: str, part: Any) -> Any:
    if hasattr(part, "state_dict"):
        return {"state": part.state_dict()}
    if isinstance(part, Mapping):
        return {"state": {key: _state(f"{name}[{key!r}]", v) for key, v in part.items()}}
    if type(part) not in (
        bool,
        int,
        float,
        str,
        type(None),
    ):  # subclasses are not read back
        raise TypeError(
            f"{name} must have state_dict, or be a number, a string or None of Python, got "
            f"{type(part).__name__}; convert it, by float(...) or .item() say"
        )
    return part


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"state"}


def _check_names(states: dict[str, Any], parts: Mapping[str, Any], where: str) -> None:
    if states.keys() != parts.keys():
        raise ValueError(
            f"{where} holds the states of {sorted(states)}, asked for {sorted(parts)}"
        )
    for name, part in parts.items():
        if hasattr(part, "load_state_dict"):
            continue
        if not isinstance(part, Mapping):
            raise TypeError(
                f"{name} must have load_state_dict, or be a dictionary of such, got "
                f"{type(part).__name__}"
            )
        inner = states[name]["state"]
        if not all(_is_state(each) for each in inner.values()):
            raise ValueError(f"{where}: {name} is one object there, a dictionary here")
        _check_names(inner, part, f"{where}: {name}")


def _load(part: Any, state: Any) -> None:
    if hasattr(part, "load_state_dict"):
        load_part(part, state)
    else:
        for name, each in part.items():
            _load(each, state[name]["state"])
