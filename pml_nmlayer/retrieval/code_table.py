"""The rows of an index: codes and their ids, in order of id."""

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from .packed_rows import Bytes
from .row_ids import Ids, as_ids, ascending, check_distinct, check_new_ids, positions, some

# What waits for being sorted in, or taken out, is at most this or a part of the rest
_WAITING = 4096


class CodeTable:
    """Codes and ids that grow row by row and read as one pair of arrays sorted by id.

    A row with the largest id is appended in place, in buffers with room to grow. Other rows
    wait aside, and removed rows stay marked, until somebody reads. So n changes take a time
    of n log n. Reading from several threads is safe, also with waiting rows.

    Args:
        width: bytes a code.
        ids: int64 (N,), ascending.
        codes: uint8 (N, width), in the order of `ids`; both may be memory-mapped.
        next_id: the first id of a part that comes without ids.
        read_only: refuse changes.
    """

    def __init__(
        self,
        width: int,
        ids: Ids | None = None,
        codes: Bytes | None = None,
        next_id: int = 0,
        read_only: bool = False,
    ) -> None:
        ids = np.empty(0, np.int64) if ids is None else ids
        codes = np.empty((0, width), np.uint8) if codes is None else codes
        self.next_id = next_id
        self.read_only = read_only
        self._set_rows(ids, codes)
        self._sorting = threading.Lock()

    def _set_rows(self, ids: Ids, codes: Bytes) -> None:
        self._ids, self._codes, self._used = ids, codes, len(ids)
        self._waiting: list[tuple[Ids, Bytes]] = []
        self._waiting_ids: set[int] = set()
        self._removed: npt.NDArray[np.bool_] | None = None
        self._removed_count = 0

    def __len__(self) -> int:
        return self._used - self._removed_count + len(self._waiting_ids)

    def __getstate__(self) -> dict[str, Any]:
        ids, codes = self.sorted()
        return {"ids": np.array(ids), "codes": np.array(codes), "next_id": self.next_id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        codes = state["codes"]
        CodeTable.__init__(self, codes.shape[1], state["ids"], codes, state["next_id"])

    def sorted(self) -> tuple[Ids, Bytes]:
        """Ids in ascending order, and their codes; not to be changed."""
        with self._sorting:
            if self._waiting or self._removed_count:
                self._sort()
            used = self._used
            if used == len(self._ids):
                return self._ids, self._codes
            return self._ids[:used], self._codes[:used]

    def codes_of(self, ids: Ids) -> Bytes:
        """Codes of ids that are present, in any shape.

        Args:
            ids: present ids.
        """
        present, codes = self.sorted()
        return codes[np.searchsorted(present, ids)]

    def rows_of(self, ids: Ids) -> Ids:
        """Positions of ids in the sorted arrays.

        Args:
            ids: in any order.

        Raises:
            ValueError: ids that are absent.
        """
        at, there = positions(self.sorted()[0], ids)
        if not there.all():
            _refuse_absent(ids[~there])
        return at

    def present(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Which ids are in the table.

        Args:
            ids: in any order.
        """
        at, there = positions(self._ids[: self._used], ids)
        if self._removed is not None:
            there[there] = ~self._grown_marks()[at[there]]
        if self._waiting_ids:
            there |= np.fromiter((i in self._waiting_ids for i in ids.tolist()), bool)
        return there

    def new_ids(self, count: int, ids: Any = None) -> Ids:
        """Check the ids of rows that are going to be appended.

        Args:
            count: number of rows.
            ids: one a row; None to count on from the largest id that ever was.

        Raises:
            ValueError: read-only, or ids that are repeated, present, negative, or not one a
                code.
            TypeError: ids of another dtype than whole numbers.
        """
        self.check_writable()
        if ids is None:
            return np.arange(self.next_id, self.next_id + count, dtype=np.int64)
        ids = as_ids(ids)
        check_new_ids(ids, count)
        if len(ids) and ids.min() < self.next_id:  # else all are new
            present = ids[self.present(ids)]
            if len(present):
                raise ValueError(
                    f"{len(present)} ids are in the index already: {some(present)}; "
                    "remove them first, use other ids, or call upsert"
                )
        return ids

    def append(self, codes: Bytes, ids: Ids) -> None:
        """Add rows.

        Args:
            codes: padded codes.
            ids: what `new_ids` returned for them.
        """
        if not len(ids):
            return
        used = self._used
        if ascending(ids) and (not used or ids[0] > self._ids[used - 1]):
            self._make_room(len(ids))
            self._ids[used : used + len(ids)] = ids
            self._codes[used : used + len(ids)] = codes
            self._used += len(ids)
        else:
            self._waiting.append((ids, np.array(codes)))
            self._waiting_ids.update(ids.tolist())
            if len(self._waiting_ids) > max(_WAITING, used // 4):
                self._sort()
        self.next_id = max(self.next_id, int(ids.max()) + 1)

    def overwrite(self, codes: Bytes, ids: Ids) -> None:
        """Change the codes of rows.

        Args:
            codes: padded codes.
            ids: distinct ids that are present.
        """
        if self._waiting:
            self._sort()
        self._codes[positions(self._ids[: self._used], ids)[0]] = codes

    def check_removable(self, ids: Any) -> Ids:
        """Check ids of rows that are going to be removed.

        Args:
            ids: which.

        Returns:
            The ids as an array.

        Raises:
            ValueError: read-only, or ids that are repeated or absent.
            TypeError: ids of another dtype than whole numbers.
        """
        self.check_writable()
        ids = as_ids(ids)
        check_distinct(ids)
        absent = ids[~self.present(ids)]
        if len(absent):
            _refuse_absent(absent)
        return ids

    def remove(self, ids: Ids) -> None:
        """Take rows out.

        Args:
            ids: what `check_removable` returned.
        """
        if not len(ids):
            return
        if self._waiting:
            self._sort()
        self._grown_marks()[positions(self._ids[: self._used], ids)[0]] = True
        self._removed_count += len(ids)
        if self._removed_count > max(_WAITING, self._used // 2):
            self._sort()

    def clear(self) -> None:
        """Take all rows out and count ids from 0 again."""
        self.check_writable()
        self._set_rows(np.empty(0, np.int64), self._codes[:0].copy())
        self.next_id = 0

    def check_writable(self) -> None:
        """Refuse a change of a memory-mapped table."""
        if self.read_only:
            raise ValueError(
                "a memory-mapped index is read-only; load it with mmap=False to change it"
            )

    def _make_room(self, count: int) -> None:
        needed, room = self._used + count, len(self._ids)
        if needed <= room and self._ids.flags.writeable:
            return
        room = max(needed, room * 3 // 2) if needed > room else room
        ids, codes = self._ids, self._codes
        self._ids = np.empty(room, np.int64)
        self._codes = np.empty((room, codes.shape[1]), np.uint8)
        self._ids[: self._used] = ids[: self._used]
        self._codes[: self._used] = codes[: self._used]

    def _grown_marks(self) -> npt.NDArray[np.bool_]:
        """Marks of removed rows, for as many rows as there is room for."""
        marks = self._removed
        if marks is None or len(marks) < self._used:
            self._removed = np.zeros(len(self._ids), bool)
            if marks is not None:
                self._removed[: len(marks)] = marks
            return self._removed
        return marks

    def _sort(self) -> None:
        ids, codes = self._ids[: self._used], self._codes[: self._used]
        if self._removed_count:
            keep = ~self._grown_marks()[: self._used]
            ids, codes = ids[keep], codes[keep]
        if self._waiting:
            ids = np.concatenate([ids, *(part for part, _ in self._waiting)])
            codes = np.concatenate([codes, *(part for _, part in self._waiting)])
            order = np.argsort(ids, kind="stable")
            ids, codes = ids[order], codes[order]
        self._set_rows(ids, codes)


def _refuse_absent(ids: Ids) -> None:
    raise ValueError(f"{len(ids)} ids are not in the index: {some(ids)}")
