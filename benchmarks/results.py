"""Raw results on disk: one JSON and one npz a run, named by the hash of its spec."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any

import numpy as np

Spec = dict[str, Any]
Record = dict[str, Any]
Arrays = dict[str, np.ndarray]
LEFT_OUT = "codes_left_out"  # in metrics of a run whose codes are not kept


def key_of(spec: Spec) -> str:
    """Return the first 12 hex digits of the SHA-256 of the canonical JSON of a spec."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def file_name(name: str) -> str:
    """Make a name fit for files: the ":" and "/" of a data set become "_"."""
    return re.sub(r"[^\w.-]+", "_", name)


class Store:
    """The folder of raw results: `<root>/<suite>/<dataset>/<key>.json` and `.npz`.

    Args:
        root: the results folder; made when the first result is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, suite: str) -> Path:
        return self.root / suite

    def path(self, spec: Spec) -> Path:
        folder = self.folder(spec["suite"]) / file_name(spec["dataset"])
        return folder / f"{key_of(spec)}.json"

    def load(self, spec: Spec) -> Record | None:
        """Return the record of a spec, None if there is none.

        Raises:
            ValueError: the file holds another spec or is no record.
        """
        path = self.path(spec)
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_text())
            stored = record["spec"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no raw result ({error}); remove it") from error
        if stored != spec:
            raise ValueError(
                f"{path} holds the result of another spec: {stored}; remove it"
            )
        return record

    def load_arrays(self, spec: Spec, names: Collection[str] | None = None) -> Arrays:
        """Load all arrays of a result, or those of some names that are there.

        None are there where the codes were left out of an archive.
        """
        if not self.has_codes(spec) and self.has_result(spec):
            return {}
        with np.load(self.path(spec).with_suffix(".npz")) as arrays:
            wanted = arrays.files if names is None else names
            return {name: arrays[name] for name in wanted if name in arrays.files}

    def has_result(self, spec: Spec) -> bool:
        """Tell whether codes are stored, or what they were judged to be.

        A failure does not count, nor a refusal.
        """
        record = self.load(spec)
        done = record is not None and "error" not in record
        return done and (self.has_codes(spec) or LEFT_OUT in self._kept_metrics(spec))

    def has_codes(self, spec: Spec) -> bool:
        """Tell whether the arrays of a run are there."""
        return self.path(spec).with_suffix(".npz").exists()

    def _kept_metrics(self, spec: Spec) -> Collection[str]:
        """Return the keys of where metrics were kept; none without a file."""
        try:
            content = json.loads(self.metrics_path(spec).read_text())
            return list(content["of"])
        except (OSError, ValueError, KeyError, TypeError):
            return ()

    def metrics_path(self, spec: Spec) -> Path:
        """Tell where metrics are kept beside a result."""
        return self.path(spec).with_suffix(".metrics")

    def is_refused(self, spec: Spec) -> bool:
        """Tell whether the method cannot work on the data set: nothing to run again."""
        record = self.load(spec)
        return record is not None and "refused" in record

    def save(self, spec: Spec, record: Record, arrays: Arrays) -> None:
        """Write a result. The JSON comes last and vouches for the npz."""
        path = self.path(spec)
        path.parent.mkdir(parents=True, exist_ok=True)
        if arrays:
            write_file(path.with_suffix(".npz"), lambda f: _save_arrays(f, arrays))
        text = json.dumps({"spec": spec, **record}, indent=1)
        write_file(path, lambda f: f.write(text.encode()))


def _save_arrays(file: IO[bytes], arrays: Arrays) -> None:
    np.savez_compressed(file, allow_pickle=False, **arrays)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, lambda f: f.write(text.encode()))


def write_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that no reader ever sees half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as f:
            write(f)
        # mkstemp makes files for the owner's eyes only; results are like any other file.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
