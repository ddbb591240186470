"""Search among packed codes: exact, or approximate through faiss' binary indexes."""

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..codes.convention import binarize
from . import approximate, exact
from .approximate import Kind
from .asymmetric import real_queries, rerank
from .index_contents import IndexContents
from .names import Texts
from .packed_rows import Bytes, flag, whole
from .row_ids import Ids
from .saved_index import restore_index, save_index

Ints = npt.NDArray[Any]

# Places that may stay empty because fewer codes are found than were asked for
_EMPTY_PLACES = 2**20


class HashIndex(IndexContents):
    r"""Nearest codes by Hamming distance, with ids of your own.

    Formula:  d(q, b) = number of bits in which q and b differ;
              asymmetric: a(u, b) = sum over k of |u_k| [sign(u_k) != b_k]
              = (|u|_1 - ⟨u, b⟩) / 2, in the unit of u; equal to d for u of -1 and +1.

    Results are sorted by distance, ties by id. Kinds:
        flat: exact. Also which of the items tied at the k-th distance are returned is
            defined: those of the smallest ids.
        ivf: scans `nprobe` of `nlist` k-means cells; needs `train`. Misses what lies in
            other cells; exact with nprobe = nlist, up to the choice within a cut tie.
        hnsw: walks a graph with `links` edges an item. `ef_search` (at least k) trades time
            for recall. Loses recall where very many codes are equal.
        multihash: looks up `nhash` disjoint substrings of `hash_bits` bits, also with up to
            `nflip` bits flipped. Finds all codes within nhash * (nflip + 1) - 1 bits, and
            beyond that only some.
    Threads may call every method at any time: searches run side by side, and a change waits
    for them. An index can be pickled and copied.

    Ids are whole numbers or strings; the first codes decide. With strings, results hold
    them in numpy arrays of objects, None where nothing was found, and ties go to what was
    added first.

    Args:
        bits: code length K in bits, any K >= 1.
        kind: "flat", "ivf", "hnsw" or "multihash".
        options: whole numbers. ivf: nlist=256, nprobe=16. hnsw: links=32,
            ef_construction=100, ef_search=64. multihash: nhash=4, nflip=1,
            hash_bits=min(K // nhash, 16).

    Shapes:   codes (N, K) of -1 and +1, tensor or array, or packed uint8 (N, ceil(K / 8))
              of `pack_codes`. Results are tensors on the CPU.
    Raises:   ValueError: codes of another length or with other values (NaN too), unknown
              kind or options, an untrained ivf, repeated ids, a k that leaves more than a
              million places empty. TypeError: another dtype.
    Source:   faiss, IndexBinaryFlat, IndexBinaryIVF, IndexBinaryHNSW, IndexBinaryMultiHash;
              multi-index hashing: Norouzi et al., arXiv:1307.2982; asymmetric distances:
              Gordo et al., TPAMI 2014.
              Differs: any K; ties have an order; a range includes its radius; ids are
              distinct. The codes are kept once more beside the structures of faiss.

    Example:
        >>> index = HashIndex(bits=3)
        >>> index.add(torch.tensor([[1, 1, 1], [1, -1, 1], [-1, -1, -1]]), ids=[7, 5, 9])
        >>> index.search(torch.tensor([[1, 1, 1]]), k=2)
        (tensor([[0, 1]], dtype=torch.int32), tensor([[7, 5]]))
    """

    def __init__(self, bits: int, kind: Kind = "flat", **options: int) -> None:
        super().__init__(bits, kind, **options)

    def search(
        self, codes: Any, k: int, *, allowed: Any = None
    ) -> tuple[Tensor, Tensor | Texts]:
        """Find the k nearest codes of each query.

        Args:
            codes: queries; none are allowed.
            k: number of neighbours, >= 1. Where fewer are found (k exceeds the size, an
                empty index, an approximate kind) the rest of a row has id -1 and distance
                2^31 - 1, as in faiss.
            allowed: search among these ids alone, exactly whatever the kind; None for all.

        Shapes:   (Q, K) -> (Q, k) and (Q, k).
        Returns:  (distances in bits int32, ids int64), by distance, then by id.
        Raises:   ValueError: k < 1, an untrained ivf, allowed ids that are not in the
                  index, or queries that are not codes.
        """
        self._check_trained()
        queries, k = self._rows(codes, "queries"), whole(k, "k")
        with self._lock.reading():
            distances, ids = self._search(queries, k, self._among(allowed))
            return torch.from_numpy(distances), self._shown(ids)

    def range_search(
        self, codes: Any, radius: int, *, allowed: Any = None
    ) -> tuple[list[Tensor], list[Any]]:
        """Find all codes within a radius, inclusive.

        Exact for flat, and for hnsw, which scans all codes here; ivf looks into `nprobe`
        cells; multihash is exact up to nhash * (nflip + 1) - 1 bits.

        Args:
            codes: queries.
            radius: in bits, >= 0.
            allowed: search among these ids alone, exactly whatever the kind; None for all.

        Shapes:   (Q, K) -> Q tensors (n_q,) and Q tensors (n_q,).
        Returns:  (distances in bits int32, ids int64) a query, by distance, then by id.
        Raises:   ValueError: a negative radius, an untrained ivf, allowed ids that are not
                  in the index, or queries that are not codes.  TypeError: a radius that is
                  not a whole number.
        """
        self._check_trained()
        radius = min(whole(radius, "radius", least=0), self.bits)
        queries = self._rows(codes, "queries")
        with self._lock.reading():
            among = self._among(allowed)
            if self.kind in ("ivf", "multihash") and len(queries) and among is None:
                limits, near, ids = approximate.within(
                    self._engine, self.kind, queries, radius
                )
            else:
                known, rows = self._table.sorted() if among is None else among
                limits, near, positions = exact.within(queries, rows, radius)
                ids = known[positions]
            sizes = np.diff(limits)
            query = np.repeat(np.arange(len(queries)), sizes)
            order = np.lexsort((ids, near, query))
            near, shown = near[order], self._shown(ids[order])
        distances = list(torch.from_numpy(near).split(sizes.tolist()))
        if isinstance(shown, Tensor):
            return distances, list(shown.split(sizes.tolist()))
        return distances, np.split(shown, np.cumsum(sizes)[:-1]) if len(queries) else []

    def search_asymmetric(
        self,
        embeddings: Any,
        k: int,
        *,
        candidates: int | None = None,
        allowed: Any = None,
    ) -> tuple[Tensor, Tensor | Texts]:
        """Search by signs, then re-rank by a(u, b) with the real-valued queries.

        Bits on which the query is unsure (|u_k| small) count less. Ranks as ⟨u, b⟩ and as
        the Euclidean distance of u and b do. Exact with flat and `candidates` = len(index).

        Args:
            embeddings: real outputs u of the queries, finite.
            k: number of neighbours, >= 1.
            candidates: how many neighbours by Hamming distance are re-ranked, >= k;
                10 * k by default.
            allowed: search among these ids alone; None for all.

        Shapes:   (Q, K) -> (Q, k) and (Q, k).
        Returns:  (a(u, b) float64, ids int64), by a, then by id; where fewer are found, the
                  rest of a row has id -1 and distance inf.
        Raises:   ValueError: NaN or infinite queries, candidates < k, or allowed ids that
                  are not in the index.  TypeError: queries that are no real numbers.
        """
        self._check_trained()
        k = whole(k, "k")
        candidates = 10 * k if candidates is None else whole(candidates, "candidates", k)
        u = real_queries(embeddings, self.bits)
        queries = self._rows(binarize(u), "queries")
        with self._lock.reading():
            among = self._among(allowed)
            size = len(self) if among is None else len(among[0])
            ids = self._search(queries, max(min(candidates, size), k), among)[1]
            distances, ids = rerank(u.numpy(), ids, self._table, k)
            return torch.from_numpy(distances), self._shown(ids)

    def save(self, path: str | PathLike[str]) -> None:
        """Write one file with everything; it replaces an old one only once it is whole.

        Args:
            path: of the file, in an existing folder.

        Raises:
            ValueError: an untrained ivf.
            OSError: it cannot be written; the old file stays.
        """
        self._check_trained()
        with self._lock.reading():
            save_index(self, Path(path))

    @classmethod
    def load(
        cls, path: str | PathLike[str], *, mmap: bool = False, verify: bool = False
    ) -> "HashIndex":
        """Read what `save` wrote; files of kinds other than flat only if you trust them.

        Args:
            path: of the file.
            mmap: leave the codes on the disk until they are searched (flat only). The index
                is then read-only, and ids are checked, but codes are not.
            verify: with mmap, check the codes, too, which reads them once. Without mmap,
                everything is checked anyway.

        Raises:
            ValueError: a foreign, truncated or damaged file, another format version, or
                mmap with another kind than flat.
            FileNotFoundError: there is no such file.
        """
        index = cls.__new__(cls)
        restore_index(index, Path(path), flag(mmap, "mmap"), flag(verify, "verify"))
        return index

    def _among(self, allowed: Any) -> tuple[Ids, Bytes] | None:
        """Ids and codes that are allowed, in order of id."""
        if allowed is None:
            return None
        at = np.unique(self._table.rows_of(self._numbers(allowed)))
        ids, codes = self._table.sorted()
        return ids[at], np.ascontiguousarray(codes[at])

    def _search(
        self, queries: Bytes, k: int, among: tuple[Ids, Bytes] | None
    ) -> tuple[Ints, Ids]:
        size = len(self) if among is None else len(among[0])
        shape, reach = (len(queries), k), min(k, size)
        if (k - reach) * max(len(queries), 1) > _EMPTY_PLACES:
            raise ValueError(
                f"k={k} asks for far more than the {size} codes to search among: use k <= "
                f"{max(size, 1)}"
            )
        distances = np.full(shape, np.iinfo(np.int32).max, np.int32)
        ids = np.full(shape, -1, np.int64)
        if not len(queries) or not reach:
            return distances, ids
        if self._engine is None or among is not None:
            known, rows = self._table.sorted() if among is None else among
            near, positions = exact.nearest(queries, rows, reach)
            found = known[positions]
        else:
            near, found = approximate.nearest(self._engine, self.kind, queries, reach)
        distances[:, :reach], ids[:, :reach] = near, found
        return distances, ids
