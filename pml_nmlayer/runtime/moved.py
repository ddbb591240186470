"""Old module paths, which work with a DeprecationWarning until 1.0."""

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

ROOT = __name__.split(".")[0]
# Where the names of a module of version 0.1 are now
MOVED = {
    "atomic": ["runtime.atomic"],
    "bit_statistics": ["merging.bit_statistics"],
    "codebooks": ["classes.codebooks"],
    "codewords": [
        "classes.semantic_codebook",
        "classes.objectives",
        "classes.class_means",
        "runtime.assignment",
    ],
    "label_sets": ["labels.label_sets"],
    "layers.bi_half": ["heads.bi_half"],
    "layers.configuration": ["runtime.configured"],
    "layers.folding": ["heads.folding"],
    "layers.nm_layer": ["merging.nm_layer"],
    "layers.progressive_head": ["heads.progressive_head"],
    "pair_counts": ["hamming.pair_counter", "hamming.blocks", "hamming.counting"],
    "pair_likelihood": ["merging.pair_likelihood"],
    "process_group": ["runtime.process_group"],
    "redundancy": [
        "merging.graph",
        "merging.partition",
        "merging.targets",
        "merging.gini",
    ],
    "scorers": ["merging.scorers"],
    "similarity": ["labels.checks", "labels.relevance"],
}


class _MovedModule(ModuleType):
    """An old module: it looks its names up where they are now."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        old = self.__name__.removeprefix(f"{ROOT}.")
        for new in MOVED[old]:
            module = importlib.import_module(f"{ROOT}.{new}")
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(
            f"module {self.__name__} has no {name!r}; its names moved to "
            f"{', '.join(f'{ROOT}.{new}' for new in MOVED[old])}, and CHANGELOG.md says "
            "which ones left"
        )


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        root, _, old = fullname.partition(".")
        if root != ROOT or old not in MOVED:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _MovedModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        new = " and ".join(f"{ROOT}.{m}" for m in MOVED[module.__name__[len(ROOT) + 1 :]])
        warnings.warn(
            f"{module.__name__} has moved to {new}; the old path leaves in 1.0",
            DeprecationWarning,
            stacklevel=2,
        )


def install() -> None:
    """Make old paths importable; they are looked for after all others."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
