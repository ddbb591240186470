"""All random generators that a training draws from, as one state."""

import random
from typing import Any, TypeAlias

import numpy as np
import torch
from pytorch_metric_learning.samplers import MPerClassSampler
from pytorch_metric_learning.utils import common_functions as c_f

from ..samplers import MultiLabelMPerClassSampler

_Sampler: TypeAlias = MPerClassSampler | MultiLabelMPerClassSampler
_PARTS = {"python", "numpy", "torch", "cuda", "classes", "sampler"}


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
                another sampler; or no such state.
        """
        if not isinstance(state, dict) or not _PARTS <= state.keys():
            raise ValueError(
                f"a random state has {sorted(_PARTS)}, this one has "
                f"{sorted(state) if isinstance(state, dict) else type(state).__name__}"
            )
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
