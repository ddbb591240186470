"""Search among packed codes: exact, or approximate through faiss' binary indexes."""

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..codes.convention import binarize
from ..retrieval import approximate, exact
from .approximate import Kind
from .asymmetric import real_queries, rerank
from .code_table import CodeTable, Ids
from .index_file import read_index_file, write_index_file
from .packed_rows import Bytes, packed_rows, pad, padded_width, whole

Ints = npt.NDArray[Any]


class HashIndex:
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
    Adding, searching and removing at the same time from several threads is not safe.

    Args:
        bits: code length K in bits, any K >= 1.
        kind: "flat", "ivf", "hnsw" or "multihash".
        options: whole numbers. ivf: nlist=256, nprobe=16. hnsw: links=32,
            ef_construction=100, ef_search=64. multihash: nhash=4, nflip=1,
            hash_bits=min(K // nhash, 16).

    Shapes:   codes (N, K) of -1 and +1, tensor or array, or packed uint8 (N, ceil(K / 8))
              of `pack_codes`. Results are tensors on the CPU.
    Raises:   ValueError: codes of another length or with other values (NaN too), unknown
              kind or options, an untrained ivf, repeated ids. TypeError: another dtype.
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
        self.bits = whole(bits, "bits")
        self.kind = kind
        self._options = approximate.resolve_options(kind, self.bits, options)
        self._width = padded_width(self.bits)
        self._table = CodeTable(self._width)
        self._engine: Any = None
        if kind != "flat":
            self._engine = approximate.make_engine(kind, self._width, self._options)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        options = "".join(f", {name}={value}" for name, value in self._options.items())
        return f"<HashIndex(bits={self.bits}, kind={self.kind!r}{options}), n={len(self)}>"

    @property
    def options(self) -> dict[str, int]:
        """All options in use, defaults included."""
        return dict(self._options)

    @property
    def ids(self) -> Tensor:
        """Ids of all codes, in ascending order."""
        return torch.from_numpy(np.array(self._table.sorted()[0]))

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
        if len(self):
            raise ValueError(f"train before adding codes; the index holds {len(self)}")
        rows = self._rows(codes, "training codes")
        if len(rows) < self._options["nlist"]:
            raise ValueError(
                f"training {self._options['nlist']} cells (nlist) needs at least as many "
                f"codes, got {len(rows)}"
            )
        self._engine.train(rows)

    def add(self, codes: Any, ids: Any = None) -> None:
        """Add codes.

        Args:
            codes: what to add; may be empty.
            ids: one distinct whole number >= 0 a code; by default they count on from the
                largest id so far (0, 1, ... at first).

        Raises:
            ValueError: ids that are in the index already, repeated or negative; an
                untrained ivf; a memory-mapped index.
        """
        self._check_trained()
        rows = self._rows(codes, "codes")
        added = self._table.append(rows, ids)
        if self._engine is not None and len(added):
            approximate.add(self._engine, self.kind, rows, added)

    def remove(self, ids: Any) -> None:
        """Remove codes by id (flat and ivf).

        Args:
            ids: distinct ids that are in the index.

        Raises:
            ValueError: ids that are not in the index or repeated; a memory-mapped index.
            NotImplementedError: kinds hnsw and multihash.
        """
        if self.kind not in ("flat", "ivf"):
            raise NotImplementedError(
                f"kind={self.kind!r} cannot remove codes: use kind 'flat' or 'ivf', or "
                "build the index again without them"
            )
        removed = self._table.remove(ids)
        if self._engine is not None and len(removed):
            self._engine.remove_ids(removed)

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
        given = {**self._options, name: value}
        self._options = approximate.resolve_options(self.kind, self.bits, given)
        approximate.set_search_option(self._engine, self.kind, self._options)

    def search(self, codes: Any, k: int) -> tuple[Tensor, Tensor]:
        """Find the k nearest codes of each query.

        Args:
            codes: queries; none are allowed.
            k: number of neighbours, >= 1. Where fewer are found (k exceeds the size, an
                empty index, an approximate kind) the rest of a row has id -1 and distance
                2^31 - 1, as in faiss.

        Shapes:   (Q, K) -> (Q, k) and (Q, k).
        Returns:  (distances in bits int32, ids int64), by distance, then by id.
        Raises:   ValueError: k < 1, an untrained ivf, or queries that are not codes.
        """
        self._check_trained()
        distances, ids = self._search(self._rows(codes, "queries"), whole(k, "k"))
        return torch.from_numpy(distances), torch.from_numpy(ids)

    def range_search(self, codes: Any, radius: int) -> tuple[list[Tensor], list[Tensor]]:
        """Find all codes within a radius, inclusive.

        Exact for flat, and for hnsw, which scans all codes here; ivf looks into `nprobe`
        cells; multihash is exact up to nhash * (nflip + 1) - 1 bits.

        Args:
            codes: queries.
            radius: in bits, >= 0.

        Shapes:   (Q, K) -> Q tensors (n_q,) and Q tensors (n_q,).
        Returns:  (distances in bits int32, ids int64) a query, by distance, then by id.
        Raises:   ValueError: a negative radius, an untrained ivf, or queries that are not
                  codes.  TypeError: a radius that is not a whole number.
        """
        self._check_trained()
        radius = min(whole(radius, "radius", least=0), self.bits)
        queries = self._rows(codes, "queries")
        if self.kind in ("ivf", "multihash") and len(queries):
            limits, near, ids = approximate.within(self._engine, self.kind, queries, radius)
        else:
            known, rows = self._table.sorted()
            limits, near, positions = exact.within(queries, rows, radius)
            ids = known[positions]
        sizes = np.diff(limits)
        query = np.repeat(np.arange(len(queries)), sizes)
        order = np.lexsort((ids, near, query))
        near, ids, rows_each = near[order], ids[order], sizes.tolist()
        distances = torch.from_numpy(near).split(rows_each)
        return list(distances), list(torch.from_numpy(ids).split(rows_each))

    def search_asymmetric(
        self, embeddings: Tensor, k: int, candidates: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Search by signs, then re-rank by a(u, b) with the real-valued queries.

        Bits on which the query is unsure (|u_k| small) count less. Ranks as ⟨u, b⟩ and as
        the Euclidean distance of u and b do. Exact with flat and `candidates` = len(index).

        Args:
            embeddings: real outputs u of the queries, finite.
            k: number of neighbours, >= 1.
            candidates: how many neighbours by Hamming distance are re-ranked, >= k;
                10 * k by default.

        Shapes:   (Q, K) -> (Q, k) and (Q, k).
        Returns:  (a(u, b) float64, ids int64), by a, then by id; where fewer are found, the
                  rest of a row has id -1 and distance inf.
        Raises:   ValueError: NaN or infinite queries, or candidates < k.
        """
        self._check_trained()
        k = whole(k, "k")
        candidates = 10 * k if candidates is None else whole(candidates, "candidates", k)
        u = real_queries(embeddings, self.bits)
        ids = self._search(self._rows(binarize(u), "queries"), candidates)[1]
        distances, ids = rerank(u.numpy(), ids, self._table, k)
        return torch.from_numpy(distances), torch.from_numpy(ids)

    def save(self, path: str | PathLike[str]) -> None:
        """Write one file with everything; it replaces an old one only once it is whole.

        Args:
            path: of the file, in an existing folder.

        Raises:
            ValueError: an untrained ivf.
        """
        self._check_trained()
        ids, codes = self._table.sorted()
        arrays: dict[str, npt.NDArray[Any]] = {"ids": ids, "codes": codes}
        if self._engine is not None:
            import faiss

            arrays["engine"] = faiss.serialize_index_binary(self._engine)
        next_id = self._table.next_id
        about = {"bits": self.bits, "kind": self.kind, "options": self._options}
        write_index_file(Path(path), {**about, "next_id": next_id}, arrays)

    @classmethod
    def load(cls, path: str | PathLike[str], mmap: bool = False) -> "HashIndex":
        """Read what `save` wrote. Load only files that you trust.

        Args:
            path: of the file.
            mmap: leave the codes on the disk until they are searched (flat only). The index
                is then read-only, and checksums of the codes are not checked.

        Raises:
            ValueError: a foreign, truncated or damaged file, another format version, or
                mmap with another kind than flat.
            FileNotFoundError: there is no such file.
        """
        about, arrays = read_index_file(Path(path), mmap)
        if mmap and about["kind"] != "flat":
            raise ValueError(
                f"mmap=True works with kind 'flat', {path} is of kind {about['kind']!r}; "
                "load it with mmap=False"
            )
        index = cls(about["bits"], about["kind"], **about["options"])
        index._table = CodeTable(
            index._width, arrays["ids"], arrays["codes"], about["next_id"], read_only=mmap
        )
        if index._engine is not None:
            import faiss

            index._engine = faiss.deserialize_index_binary(arrays["engine"])
            approximate.set_search_option(index._engine, index.kind, index._options)
        return index

    def _rows(self, codes: Any, name: str) -> Bytes:
        return pad(packed_rows(codes, self.bits, name), self._width)

    def _check_trained(self) -> None:
        if not self.is_trained:
            raise ValueError(
                "an index of kind 'ivf' must be trained first: call train(codes)"
            )

    def _search(self, queries: Bytes, k: int) -> tuple[Ints, Ids]:
        shape, reach = (len(queries), k), min(k, len(self))
        distances = np.full(shape, np.iinfo(np.int32).max, np.int32)
        ids = np.full(shape, -1, np.int64)
        if not len(queries) or not reach:
            return distances, ids
        if self._engine is None:
            known, rows = self._table.sorted()
            near, positions = exact.nearest(queries, rows, reach)
            found = known[positions]
        else:
            near, found = approximate.nearest(self._engine, self.kind, queries, reach)
        distances[:, :reach], ids[:, :reach] = near, found
        return distances, ids
