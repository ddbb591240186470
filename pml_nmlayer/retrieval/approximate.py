"""The approximate kinds: faiss' binary IVF, HNSW and multi-index hashing, keyed by id."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .packed_rows import Bytes, whole

Ints = npt.NDArray[Any]

Kind = Literal["flat", "ivf", "hnsw", "multihash"]

# None: a default that depends on the code length.
_DEFAULTS: dict[str, dict[str, int | None]] = {
    "flat": {},
    "ivf": {"nlist": 256, "nprobe": 16},
    "hnsw": {"links": 32, "ef_construction": 100, "ef_search": 64},
    "multihash": {"nhash": 4, "hash_bits": None, "nflip": 1},
}
# Beyond these, memory is taken for structures that no index of codes can fill
_MOST = {"nlist": 2**24, "links": 2**10, "ef_construction": 2**20, "ef_search": 2**24}
_SEARCH_OPTIONS = {"ivf": "nprobe", "hnsw": "ef_search", "multihash": "nflip"}


def resolve_options(kind: str, bits: int, given: Mapping[str, Any]) -> dict[str, int]:
    """Fill in defaults and check options.

    Args:
        kind: of index.
        bits: code length K in bits.
        given: options of the caller.

    Raises:
        ValueError: an unknown kind or option, or a value out of range.
        TypeError: an option that is not a whole number.
    """
    if not isinstance(kind, str) or kind not in _DEFAULTS:
        raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}; got {kind!r}")
    defaults = dict(_DEFAULTS[kind])
    if kind == "multihash":
        nhash = given.get("nhash", defaults["nhash"])
        # 2^16 buckets a table: more would stay empty below some ten million codes.
        defaults["hash_bits"] = max(min(bits // whole(nhash, "nhash"), 16), 1)
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise ValueError(
            f"kind={kind!r} has no option {', '.join(unknown)}; it has "
            f"{', '.join(defaults) or 'none'}"
        )
    options = {
        name: whole(value, name, least=0 if name == "nflip" else 1, most=_MOST.get(name))
        for name, value in {**defaults, **given}.items()
    }
    _check_ranges(kind, bits, options)
    return options


def search_option(kind: str) -> str | None:
    """Name of the option that can change after codes were added.

    Args:
        kind: of index.
    """
    return _SEARCH_OPTIONS.get(kind)


def make_engine(kind: str, width: int, options: Mapping[str, int]) -> Any:
    """Build an empty faiss index that takes codes with ids.

    Args:
        kind: any but "flat".
        width: bytes a padded code.
        options: see `resolve_options`.
    """
    import faiss

    engine: Any
    if kind == "ivf":
        coarse = faiss.IndexBinaryFlat(8 * width)
        engine = faiss.IndexBinaryIVF(coarse, 8 * width, options["nlist"])
        engine.cp.min_points_per_centroid = 1  # no message on stderr; see HashIndex.train
    elif kind == "hnsw":
        inner = faiss.IndexBinaryHNSW(8 * width, options["links"])
        inner.hnsw.efConstruction = options["ef_construction"]
        engine = faiss.IndexBinaryIDMap(inner)
    else:
        hashes = options["nhash"], options["hash_bits"]
        engine = faiss.IndexBinaryIDMap(faiss.IndexBinaryMultiHash(8 * width, *hashes))
    set_search_option(engine, kind, options)
    return engine


def set_search_option(engine: Any, kind: str, options: Mapping[str, int]) -> None:
    """Hand the option of the search over to faiss.

    Args:
        engine: see `make_engine`.
        kind: any but "flat".
        options: see `resolve_options`.
    """
    import faiss

    if kind == "ivf":
        engine.nprobe = options["nprobe"]
        return
    inner: Any = faiss.downcast_IndexBinary(engine.index)
    if kind == "hnsw":
        inner.hnsw.efSearch = options["ef_search"]
    else:
        inner.nflip = options["nflip"]


def add(engine: Any, kind: str, codes: Bytes, ids: Ints) -> None:
    """Add codes with ids.

    Args:
        engine: see `make_engine`.
        kind: any but "flat".
        codes: padded codes.
        ids: int64, not in the engine yet.
    """
    engine.add_with_ids(_engine_rows(kind, codes), ids)


def nearest(engine: Any, kind: str, queries: Bytes, k: int) -> tuple[Ints, Ints]:
    """Find up to k near codes, by distance, then by id.

    Args:
        engine: see `make_engine`.
        kind: any but "flat".
        queries: padded codes (Q, W).
        k: at most the number of codes.

    Returns:
        (distances (Q, k) int32, ids (Q, k) int64); the largest int32 and -1 where none was
        found.
    """
    distances, ids = engine.search(_engine_rows(kind, queries), k)
    distances[ids < 0] = np.iinfo(np.int32).max
    order = np.lexsort((ids, distances))
    distances = np.take_along_axis(distances, order, axis=1)
    return distances, np.take_along_axis(ids, order, axis=1)


def within(engine: Any, kind: str, queries: Bytes, radius: int) -> tuple[Ints, Ints, Ints]:
    """Find codes within a radius, inclusive, as `exact.within` does but with ids.

    Args:
        engine: see `make_engine`.
        kind: "ivf" or "multihash".
        queries: padded codes (Q, W).
        radius: in bits.
    """
    limits, distances, ids = engine.range_search(_engine_rows(kind, queries), radius + 1)
    return limits.astype(np.int64), distances.astype(np.int32), ids


def to_bytes(engine: Any) -> Bytes | None:
    """Serialize; None stays None.

    Args:
        engine: see `make_engine`, or None.
    """
    if engine is None:
        return None
    import faiss

    return faiss.serialize_index_binary(engine)


def from_bytes(content: Bytes) -> Any:
    """Read what `to_bytes` gave.

    Args:
        content: from a source that is trusted.
    """
    import faiss

    return faiss.deserialize_index_binary(content)


def check_loaded(
    engine: Any, kind: str, width: int, options: Mapping[str, int], ids: Ints
) -> None:
    """Refuse an engine of another shape, or with other ids, than it should have.

    Args:
        engine: what `from_bytes` returned.
        kind: any but "flat".
        width: bytes a padded code.
        options: see `resolve_options`.
        ids: of all codes, in ascending order.

    Raises:
        ValueError: it differs; the message says in what.
    """
    import faiss

    wanted: dict[str, Any] = {"d": 8 * width, "ntotal": len(ids), "is_trained": True}
    found = {name: getattr(engine, name) for name in wanted}
    names: dict[str, str] = {}
    if kind == "ivf":
        wanted["type"], found["type"] = "IndexBinaryIVF", type(engine).__name__
        names = {"nlist": "nlist"}
        inner = engine
    else:
        known = {"hnsw": "IndexBinaryHNSW", "multihash": "IndexBinaryMultiHash"}
        is_map = type(engine) is faiss.IndexBinaryIDMap
        inner = faiss.downcast_IndexBinary(engine.index) if is_map else engine
        wanted["type"], found["type"] = known[kind], type(inner).__name__
        names = {"nhash": "nhash", "hash_bits": "b"} if kind == "multihash" else {}
    if wanted["type"] == found["type"]:
        wanted |= {name: options[name] for name in names}
        found |= {name: getattr(inner, field) for name, field in names.items()}
    for name, value in wanted.items():
        if found[name] != value:
            raise ValueError(f"its engine has {name} {found[name]}, expected {value}")
    if not np.array_equal(np.sort(_ids_of(engine, kind)), ids):
        raise ValueError("its engine has other ids than the index")


def _ids_of(engine: Any, kind: str) -> Ints:
    import faiss

    if kind != "ivf":
        return faiss.vector_to_array(engine.id_map)
    lists = engine.invlists
    parts = [
        faiss.rev_swig_ptr(lists.get_ids(i), lists.list_size(i)).copy()
        for i in range(engine.nlist)
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])


def _engine_rows(kind: str, padded: Bytes) -> Bytes:
    """Codes in the order of bits that faiss wants."""
    if kind != "multihash":
        return padded
    # Multi-index hashing reads each byte from its lowest bit on: turned round, the padding
    # comes last and no table hashes it.
    return np.packbits(np.unpackbits(padded, axis=1), axis=1, bitorder="little")


def _check_ranges(kind: str, bits: int, options: Mapping[str, int]) -> None:
    if kind == "ivf" and options["nprobe"] > options["nlist"]:
        raise ValueError(
            f"nprobe must not exceed nlist={options['nlist']}, got {options['nprobe']}"
        )
    if kind != "multihash":
        return
    used = options["nhash"] * options["hash_bits"]
    if used > bits:
        raise ValueError(
            f"nhash * hash_bits must not exceed {bits} bits, got "
            f"{options['nhash']} * {options['hash_bits']}"
        )
    if options["hash_bits"] > 32:
        raise ValueError(f"hash_bits must not exceed 32, got {options['hash_bits']}")
    if options["nflip"] > options["hash_bits"]:
        raise ValueError(
            f"nflip must not exceed hash_bits={options['hash_bits']}, got "
            f"{options['nflip']}"
        )
