"""What an index holds, and how that changes."""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from . import approximate
from .code_table import CodeTable
from .names import Names, Texts, are_names, as_names
from .packed_rows import Bytes, packed_rows, pad, padded_width, whole
from .read_write_lock import ReadWriteLock
from .row_ids import Ids, as_ids, check_new_ids, some

C = TypeVar("C", bound="IndexContents")

MAX_BITS = 2**20


class IndexContents:
    """Codes with ids, beside the structures of faiss for approximate kinds.

    Args:
        bits: code length K in bits.
        kind: "flat", "ivf", "hnsw" or "multihash".
        options: of the kind; see `HashIndex`.
    """

    def __init__(self, bits: int, kind: str = "flat", **options: int) -> None:
        self.bits = whole(bits, "bits", most=MAX_BITS)
        self.kind = kind
        self._options = approximate.resolve_options(kind, self.bits, options)
        self._width = padded_width(self.bits)
        self._table = CodeTable(self._width)
        self._names: Names | None = None
        self._engine: Any = None
        if kind != "flat":
            self._engine = approximate.make_engine(kind, self._width, self._options)
        self._lock = ReadWriteLock()

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        options = "".join(f", {name}={value}" for name, value in self._options.items())
        return f"<HashIndex(bits={self.bits}, kind={self.kind!r}{options}), n={len(self)}>"

    def __getstate__(self) -> dict[str, Any]:
        with self._lock.reading():
            state = {name: value for name, value in vars(self).items() if name != "_lock"}
            state["_names"] = copy.deepcopy(self._names)
            state["_table"] = copy.deepcopy(self._table)
            state["_engine"] = approximate.to_bytes(self._engine)
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._lock = ReadWriteLock()
        if self._engine is not None:
            self._engine = approximate.from_bytes(self._engine)
            approximate.set_search_option(self._engine, self.kind, self._options)

    def __copy__(self: C) -> C:
        return copy.deepcopy(self)

    @property
    def options(self) -> dict[str, int]:
        """All options in use, defaults included."""
        return dict(self._options)

    @property
    def ids(self) -> Tensor | Texts:
        """Ids of all codes: numbers in ascending order, strings in the order of adding."""
        with self._lock.reading():
            return self._shown(np.array(self._table.sorted()[0]))

    @property
    def is_trained(self) -> bool:
        """Whether codes can be added: always, but for an ivf before `train`."""
        return self._engine is None or bool(self._engine.is_trained)

    def train(self, codes: Any) -> None:
        """Learn the cells of an ivf; faiss advises at least 39 codes a cell.

        Args:
            codes: a sample of what will be added, at least `nlist` codes.

        Raises:
            ValueError: another kind, too few codes, or an index that holds codes.
        """
        if self.kind != "ivf":
            raise ValueError(f"kind={self.kind!r} needs no training; add codes right away")
        rows = self._rows(codes, "training codes")
        with self._lock.writing():
            if len(self):
                raise ValueError(f"train before adding codes; the index holds {len(self)}")
            if len(rows) < self._options["nlist"]:
                raise ValueError(
                    f"training {self._options['nlist']} cells (nlist) needs at least as "
                    f"many codes, got {len(rows)}"
                )
            self._engine.train(rows)

    def add(self, codes: Any, ids: Any = None) -> None:
        """Add codes; n codes added one by one take time in proportion to n log n.

        Args:
            codes: what to add; may be empty.
            ids: one distinct whole number >= 0 a code, or one distinct string a code. By
                default, numbers count on from the largest one so far (0, 1, ... at first).
                The first codes decide whether ids are numbers or strings.

        Raises:
            ValueError: ids that are in the index already, repeated or negative; an
                untrained ivf; a memory-mapped index.
            TypeError: numbers where ids are strings, or strings where they are numbers.
        """
        self._check_trained()
        rows = self._rows(codes, "codes")
        with self._lock.writing():
            names = self._as_names(ids)
            if names is not None:
                self._check_new_names(names, len(rows))
                known = [name for name in names if name in self._known_names().number]
                if known:
                    raise ValueError(
                        f"{len(known)} ids are in the index already: {some(known)}; remove "
                        "them first, use other ids, or call upsert"
                    )
            self._append(
                rows, self._table.new_ids(len(rows), None if names else ids), names
            )

    def upsert(self, codes: Any, ids: Any) -> None:
        """Add codes, and replace those whose ids are in the index already.

        Args:
            codes: what to add; may be empty.
            ids: one distinct id a code; see `add`.

        Raises:
            ValueError: as `add`, but for ids that are in the index.
            TypeError: as `add`.
            NotImplementedError: ids that are in an index of kind hnsw or multihash.
        """
        self._check_trained()
        rows = self._rows(codes, "codes")
        with self._lock.writing():
            self._table.check_writable()
            if ids is None:
                raise ValueError("upsert needs ids=: one id a code")
            names = self._as_names(ids)
            if names is None:
                numbers = as_ids(ids)
                check_new_ids(numbers, len(rows))
                old = self._table.present(numbers)
                fresh = numbers[~old]
            else:
                self._check_new_names(names, len(rows))
                known = self._known_names()
                old = np.array([name in known.number for name in names], bool)
                fresh = self._table.new_ids(len(rows) - int(old.sum()))
                numbers = np.empty(len(rows), np.int64)
                numbers[~old] = fresh
                numbers[old] = [known.number[n] for n in names if n in known.number]
                names = [name for name in names if name not in known.number]
            if old.any():
                self._check_removes("replace")
                if self._engine is not None:
                    self._engine.remove_ids(numbers[old])
                    approximate.add(self._engine, self.kind, rows[old], numbers[old])
                self._table.overwrite(rows[old], numbers[old])
            self._append(rows[~old], fresh, names)

    def remove(self, ids: Any) -> None:
        """Remove codes by id (flat and ivf).

        Args:
            ids: distinct ids that are in the index.

        Raises:
            ValueError: ids that are not in the index or repeated; a memory-mapped index.
            NotImplementedError: kinds hnsw and multihash.
        """
        self._check_removes("remove")
        with self._lock.writing():
            numbers = self._table.check_removable(self._numbers(ids))
            if self._engine is not None and len(numbers):
                self._engine.remove_ids(numbers)
            self._table.remove(numbers)
            if self._names is not None:
                self._names.remove(numbers)

    def clear(self) -> None:
        """Remove all codes, of any kind; an ivf stays trained, and ids start anew.

        Raises:
            ValueError: a memory-mapped index.
        """
        with self._lock.writing():
            self._table.clear()
            self._names = None
            if self.kind == "ivf":
                self._engine.reset()
            elif self._engine is not None:
                self._engine = approximate.make_engine(
                    self.kind, self._width, self._options
                )

    def merge(self, other: "IndexContents") -> None:
        """Add all codes of another index under their ids; that index stays as it is.

        Args:
            other: of the same length of codes; its kind may differ.

        Raises:
            ValueError: other bits, ids that both have, or the same index twice.
            TypeError: no index, or ids of the other sort (numbers, strings).
        """
        if not isinstance(other, IndexContents):
            raise TypeError(f"merge takes a HashIndex, got {type(other).__name__}")
        if other is self:
            raise ValueError("an index cannot be merged with itself: its ids are all there")
        if other.bits != self.bits:
            raise ValueError(f"the other index has {other.bits} bits, this {self.bits}")
        with other._lock.reading():
            ids, rows = other._table.sorted()
            ids, rows = np.array(ids), np.ascontiguousarray(rows[:, : -(-self.bits // 8)])
            names = None if other._names is None else other._names.texts(ids)
        if len(ids):
            self.add(rows, ids if names is None else names)

    def codes_of(self, ids: Any) -> Tensor:
        """Look codes up.

        Args:
            ids: ids that are in the index, in any order; repeated ones are allowed.

        Shapes:   N ids -> (N, ceil(K / 8)).
        Returns:  packed uint8 codes; `unpack_codes` gives -1 and +1.
        Raises:   ValueError: ids that are not in the index.  TypeError: no ids.
        """
        with self._lock.reading():
            at = self._table.rows_of(self._numbers(ids))
            return torch.from_numpy(self._table.sorted()[1][at, : -(-self.bits // 8)])

    def tune(self, value: int) -> None:
        """Change what trades recall for time: nprobe, ef_search or nflip.

        Args:
            value: the new value.

        Raises:
            ValueError: a value out of range, or kind "flat", which has no such option.
        """
        name = approximate.search_option(self.kind)
        if name is None:
            raise ValueError("kind='flat' is exact: it has nothing to tune")
        with self._lock.writing():
            given = {**self._options, name: value}
            self._options = approximate.resolve_options(self.kind, self.bits, given)
            approximate.set_search_option(self._engine, self.kind, self._options)

    def _append(self, rows: Bytes, ids: Ids, names: list[str] | None) -> None:
        if not len(ids):
            return
        if self._engine is not None:
            approximate.add(self._engine, self.kind, rows, ids)
        self._table.append(rows, ids)
        if names is not None:
            self._names = self._known_names()
            self._names.add(names, ids)

    def _known_names(self) -> Names:
        return Names() if self._names is None else self._names

    def _as_names(self, ids: Any) -> list[str] | None:
        """Strings, if that is what ids are here; None for numbers."""
        ids = _plain(ids)
        if self._names is not None:
            if ids is None:
                raise ValueError("this index has strings as ids: pass ids=")
            return as_names(ids)
        if not are_names(ids):
            return None
        if self._table.next_id:
            raise TypeError(
                f"this index has whole numbers as ids, got strings: {some(list(ids))}; use "
                "another index, or clear this one first"
            )
        return as_names(ids)

    def _check_new_names(self, names: list[str], count: int) -> None:
        if len(names) != count:
            raise ValueError(f"expected one id a code: {count} codes, {len(names)} ids")
        if len(set(names)) < len(names):
            repeated = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"ids must be distinct; repeated: {some(repeated)}")

    def _numbers(self, ids: Any) -> Ids:
        """Numbers of ids that are to be looked up."""
        names = self._as_names(ids)
        return as_ids(_plain(ids)) if names is None else self._known_names().numbers(names)

    def _shown(self, ids: Ids) -> Tensor | Texts:
        return torch.from_numpy(ids) if self._names is None else self._names.texts(ids)

    def _rows(self, codes: Any, name: str) -> Bytes:
        return pad(packed_rows(codes, self.bits, name), self._width)

    def _check_removes(self, what: str) -> None:
        if self.kind not in ("flat", "ivf"):
            raise NotImplementedError(
                f"kind={self.kind!r} cannot {what} codes: use kind 'flat' or 'ivf', or "
                "build the index again without them"
            )

    def _check_trained(self) -> None:
        if not self.is_trained:
            raise ValueError(
                "an index of kind 'ivf' must be trained first: call train(codes)"
            )


def _plain(ids: Any) -> Any:
    """What a pandas Series or Index holds, in its order."""
    return ids.to_numpy() if hasattr(ids, "to_numpy") else ids
