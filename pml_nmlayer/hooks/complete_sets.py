"""Files of PML's HookContainer, saved and loaded as one set.

HookContainer writes a file an object, and removes that of the epoch before after each. A
kill in between leaves files of two epochs, of which loading takes what it finds. For
trainers that `keep_sets_complete` marks, the set is whole or not there: first all new files
are written, then `complete_<epoch>.json`, which lists them, and then the old ones go.
"""

import functools
import json
import re
from pathlib import Path
from typing import Any

import torch
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils.logging_presets import HookContainer
from torch import nn

from ..runtime.atomic import atomic_write, replacing
from ..runtime.checked_load import load_checked
from ..runtime.state_keys import fit_names, misfit

_MARK = "_saves_complete_sets"
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def keep_sets_complete(trainer: Any) -> None:
    """Have HookContainer save and load the objects of a trainer as one set.

    PML has no place for that. So two methods of its class look for the mark first; without
    it, they do what they did.

    Args:
        trainer: a PML trainer.
    """
    setattr(trainer, _MARK, True)
    for name, ours in (("save_models", _save), ("load_latest_saved_models", _load)):
        theirs = getattr(HookContainer, name)
        if not hasattr(theirs, _MARK):
            setattr(HookContainer, name, _for_marked(theirs, ours))


def load_part(part: Any, state: Any) -> None:
    """Load a state, whatever wrappers it was saved under or is loaded into.

    Args:
        part: an object with load_state_dict.
        state: what its state_dict returned.

    Raises:
        ValueError: it does not fit.
    """
    if not isinstance(part, nn.Module):
        part.load_state_dict(state)
        return
    fitting = fit_names(state, part)
    try:
        part.load_state_dict(state if fitting is None else fitting)
    except RuntimeError as error:
        raise ValueError(
            f"the state does not fit this {type(part).__name__}: {error}"
            + (f" ({misfit(state, part)})" if fitting is None else "")
        ) from error


def _for_marked(theirs: Any, ours: Any) -> Any:
    @functools.wraps(theirs)
    def method(container: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
        chosen = ours if getattr(trainer, _MARK, False) else theirs
        return chosen(container, trainer, *args, **kwargs)

    setattr(method, _MARK, True)
    return method


def _save(
    container: Any,
    trainer: Any,
    model_folder: str,
    curr_suffix: Any,
    prev_suffix: Any = None,
) -> None:
    if not container.do_save_models:
        return
    folder, sizes = Path(model_folder), {}
    objects = _objects(container, trainer)
    for name, value in objects.items():
        module = value.module if isinstance(value, _WRAPPERS) else value
        file = _file(folder, name, curr_suffix)
        with replacing(file) as output:
            torch.save(module.state_dict(), output)
        sizes[name] = file.stat().st_size
    atomic_write(_list(folder, curr_suffix), json.dumps({"sizes": sizes}).encode())
    if prev_suffix is not None and str(prev_suffix) != str(curr_suffix):
        _list(folder, prev_suffix).unlink(missing_ok=True)
        for name in objects:
            _file(folder, name, prev_suffix).unlink(missing_ok=True)


def _load(
    container: Any, trainer: Any, model_folder: str, device: Any = None, best: bool = False
) -> int:
    folder, problems = Path(model_folder), []
    objects = _objects(container, trainer)
    for epoch in _epochs(folder, best):
        suffix = f"best{epoch}" if best else str(epoch)
        try:
            states = _read(folder, suffix, list(objects))
        except (ValueError, OSError) as error:
            problems.append(f"epoch {suffix}: {error}")
            continue
        for problem in problems:
            c_f.LOGGER.warning(f"This save is not complete and is left out: {problem}")
        for name, value in objects.items():
            load_part(value, states[name])
            c_f.LOGGER.info(f"LOAD {_file(folder, name, suffix)}")
        return epoch + 1
    if problems:
        raise ValueError(
            f"{folder} has no complete save to go on from: {'; '.join(problems)}. "
            "To start anew, empty the folder"
            + ("" if best else "; best=True loads the best models, if they are complete")
        )
    return 1


def _read(folder: Path, suffix: str, names: list[str]) -> dict[str, Any]:
    """All states of a save, before any is loaded."""
    missing = [name for name in names if not _file(folder, name, suffix).exists()]
    if missing:
        files = ", ".join(_file(folder, name, suffix).name for name in missing)
        raise ValueError(f"{files} {'is' if len(missing) == 1 else 'are'} missing")
    listed = _list(folder, suffix)
    if listed.exists():  # saves of version 0.1.0 have none
        try:
            sizes = json.loads(listed.read_text())["sizes"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{listed.name} is damaged") from error
        for name in names:
            size = _file(folder, name, suffix).stat().st_size
            if sizes.get(name) != size:
                raise ValueError(f"{name} has {size} bytes, listed are {sizes.get(name)}")
    return {name: load_checked(_file(folder, name, suffix)) for name in names}


def _epochs(folder: Path, best: bool) -> list[int]:
    """Epochs with files, the last one first."""
    pattern = re.compile(rf"(?:trunk|complete)_{'best' if best else ''}(\d+)\.(?:pth|json)")
    files = folder.iterdir() if folder.is_dir() else []
    found = {int(m[1]) for f in files if (m := pattern.fullmatch(f.name))}
    return sorted(found, reverse=True)


def _objects(container: Any, trainer: Any) -> dict[str, Any]:
    groups = [getattr(trainer, name, {}) for name in container.saveable_trainer_objects]
    return {
        name: value
        for group in groups
        for name, value in group.items()
        if hasattr(value, "state_dict")
    }


def _file(folder: Path, name: str, suffix: Any) -> Path:
    return Path(c_f.modelpath_creator(str(folder), name, suffix))


def _list(folder: Path, suffix: Any) -> Path:
    return folder / f"complete_{suffix}.json"
