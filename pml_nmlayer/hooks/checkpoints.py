"""Stop a training at any moment, and go on as if it had never stopped."""

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from pytorch_metric_learning.samplers import MPerClassSampler
from pytorch_metric_learning.utils import common_functions as c_f

from ..runtime.atomic import replacing
from ..samplers import MultiLabelMPerClassSampler

_Sampler: TypeAlias = MPerClassSampler | MultiLabelMPerClassSampler


class RandomState:
    """The states of all random generators that a training draws from, as one state_dict.

    Generators: Python's, numpy's global one, the one PML draws from where that is another,
    torch's on the CPU and on every CUDA device. A generator that you pass to a sampler or a
    loader is your own to save.

    Loading sets the generators. So keep this object out of what is loaded to serve a model.

    Args:
        sampler: MPerClassSampler or MultiLabelMPerClassSampler, if one is used: they
            shuffle their list of classes in place, so the next order depends on the last.
            The latter's own generator, made from its seed, is saved as well. None for
            samplers that remember nothing, such as torch's.

    Raises:
        TypeError: another sampler.
    """

    def __init__(self, sampler: _Sampler | None = None) -> None:
        if not isinstance(sampler, _Sampler | None):
            raise TypeError(
                "sampler must be a MPerClassSampler, a MultiLabelMPerClassSampler or None, "
                f"got {type(sampler).__name__}; leave out what remembers nothing between "
                "epochs, and save what does yourself"
            )
        self.sampler = sampler

    def state_dict(self) -> dict[str, Any]:
        """Read all generators; plain values and tensors."""
        version, numbers, gauss = random.getstate()
        cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
        own = self._own_generator()
        return {
            "python": [version, list(numbers), gauss],
            "numpy": [_legacy_state(generator) for generator in _numpy_generators()],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if cuda else [],
            "classes": None if self.sampler is None else _plain(self.sampler.labels),
            "sampler": None if own is None else own.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set all generators.

        Raises:
            ValueError: saved with another number of CUDA devices or generators, or for
                another sampler.
        """
        devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        generators = _numpy_generators()
        if len(state["cuda"]) not in (0, devices):
            raise ValueError(
                f"the random state was saved with {len(state['cuda'])} CUDA devices, here "
                f"are {devices}: a run cannot go on exactly; leave the random state out"
            )
        if len(state["numpy"]) != len(generators):
            raise ValueError(
                f"the random state was saved with {len(state['numpy'])} numpy generators, "
                f"here are {len(generators)}: PML's common_functions.NUMPY_RANDOM differs"
            )
        classes: list[Any] = [] if self.sampler is None else _plain(self.sampler.labels)
        own = self._own_generator()
        if sorted(state["classes"] or []) != sorted(classes) or (
            (state["sampler"] is None) != (own is None)
        ):
            raise ValueError(
                f"the random state was saved for a sampler of classes {state['classes']} "
                f"{'without' if state['sampler'] is None else 'with'} a seed, here it has "
                f"{classes or None}; give a sampler made in the same way, if any"
            )
        if own is not None:
            own.bit_generator.state = state["sampler"]
        if self.sampler is not None:
            kinds = {_plain([label])[0]: label for label in self.sampler.labels}
            self.sampler.labels[:] = [kinds[label] for label in state["classes"]]
        version, numbers, gauss = state["python"]
        random.setstate((version, tuple(numbers), gauss))
        for generator, saved in zip(generators, state["numpy"], strict=True):
            generator.set_state(tuple(saved))
        torch.set_rng_state(state["torch"].cpu())
        if state["cuda"]:
            torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])

    def _own_generator(self) -> np.random.Generator | None:
        own = getattr(self.sampler, "random", None)
        return own if isinstance(own, np.random.Generator) else None


def _plain(labels: list[Any]) -> list[Any]:
    return np.array(labels).tolist()


def _numpy_generators() -> list[Any]:
    known = c_f.NUMPY_RANDOM
    own = known is not np.random and hasattr(known, "get_state")
    return [np.random, known] if own else [np.random]


def _legacy_state(generator: Any) -> list[Any]:
    name, keys, *rest = generator.get_state(legacy=True)
    return [name, keys.tolist(), *rest]


def checkpointed(trainer: Any, **objects: Any) -> None:
    """Let PML's HookContainer save and load more than it knows of.

    HookContainer saves what the trainer has in models, optimizers, lr_schedulers,
    loss_funcs and mining_funcs. The objects go into mining_funcs, in which PML looks up its
    own names and nothing else. Call it before training, and before
    `load_latest_saved_models`, with the random state last: this is the order of loading.

    Args:
        trainer: a PML trainer.
        objects: by name, each with state_dict and load_state_dict:
            checkpointed(trainer, merging=merging, random_state=RandomState(sampler)).

    Raises:
        ValueError: a name that the trainer uses already.
        TypeError: an object without state_dict.
    """
    for name, value in objects.items():
        if name in trainer.mining_funcs:
            raise ValueError(f"the trainer has a {name!r} in mining_funcs already")
        if not hasattr(value, "state_dict"):
            raise TypeError(f"{name} must have state_dict, got {value!r}")
    trainer.mining_funcs.update(objects)


def save_checkpoint(path: str | os.PathLike[str], **parts: Any) -> None:
    """Write everything that a training needs to go on into one file.

    The file is replaced as a whole: a crash in the middle leaves the old one.

    Args:
        path: of the file; its folder must exist.
        parts: by name: objects with state_dict (their state is saved), dictionaries of them
            (such as trainer.models), or plain values (such as epoch=3): numbers, strings,
            None, which `load_checkpoint` returns.

    Raises:
        TypeError: another kind of value, before anything is written.
    """
    content = {name: _state(name, part) for name, part in parts.items()}
    with replacing(Path(path)) as file:
        torch.save(content, file)


def load_checkpoint(path: str | os.PathLike[str], **parts: Any) -> dict[str, Any]:
    """Load what `save_checkpoint` wrote into the same objects.

    Args:
        path: of the file.
        parts: objects with load_state_dict, or dictionaries of them, by the names under
            which they were saved, loaded in this order: the random state comes last.

    Returns:
        The plain values in the file.

    Raises:
        ValueError: names in the file and here that do not fit, before anything is loaded;
            or a part that refuses its state.
    """
    content = torch.load(Path(path), map_location="cpu", weights_only=True)
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
        if not hasattr(part, "load_state_dict"):
            _check_names(states[name]["state"], part, f"{where}: {name}")


def _load(part: Any, state: Any) -> None:
    if hasattr(part, "load_state_dict"):
        part.load_state_dict(state)
    else:
        for name, each in part.items():
            _load(each, state[name]["state"])
