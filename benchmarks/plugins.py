"""Methods from outside this repository: of installed packages, and of files.

A package says in its metadata which module registers methods, by `@method` of `interface`:

    [project.entry-points."pml_nmlayer.benchmark_methods"]
    anything = "my_package.my_module"

A file of the same content is named by `--methods-from FILE.py`. What registers a method is
part of every spec, as a hash: results of another version of the file count as missing.
"""

import hashlib
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from .interface import registering_from
from .methods import METHODS

GROUP = "pml_nmlayer.benchmark_methods"
_loaded: dict[str, str] = {}  # the source of each package and file


def load(files: Sequence[Path] = ()) -> None:
    """Register the methods of all installed packages, then those of some files, once.

    Args:
        files: Python files.

    Raises:
        ValueError: a package or a file that cannot be loaded, or registers nothing.
    """
    for point in entry_points(group=GROUP):
        _load_installed(point)
    for path in files:
        _load_file(path)


def _load_installed(point: EntryPoint) -> None:
    package = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
    name = f"{package}: {point.name}"
    if name in _loaded:
        return
    found = find_spec(point.module)
    if found is None or found.origin is None:
        raise ValueError(f"{package} names {point.module} for methods, but has none")
    source = _hash(Path(found.origin).read_bytes())
    with registering_from(source):
        try:
            point.load()
        except Exception as error:
            raise ValueError(f"methods of {package} cannot be loaded: {error}") from error
    _loaded[name] = source


def _load_file(path: Path) -> None:
    path = path.resolve()
    if not path.is_file():
        raise ValueError(f"there is no file {path} with methods")
    content = path.read_bytes()
    source = _hash(content)
    if _loaded.get(str(path), source) != source:
        raise ValueError(f"{path} has changed since it was loaded; start again")
    if str(path) in _loaded:
        return
    before = len(METHODS)
    module = ModuleType(f"methods_from_{source}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # what it defines can be pickled
    with registering_from(source):
        try:
            exec(compile(content, path, "exec"), vars(module))
        except Exception as error:
            raise ValueError(f"methods of {path} cannot be loaded: {error}") from error
    if len(METHODS) == before:
        raise ValueError(
            f"{path} registers no method; decorate one with @method of benchmarks.interface"
        )
    _loaded[str(path)] = source


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
