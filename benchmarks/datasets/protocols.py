"""Named protocols: rules by which a labelled set becomes a split.

Sizes are those of the literature, but for what follows from two rules of this suite: test
queries come from a pool that tuning never sees, and validation queries are no training
items. In a report a validation item is an ordinary item of the database (not with digits).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..registry import Registry
from .draws import Draw, Sizes, draw, fixed_stream, groups, seeded_stream
from .interface import Collection, Purpose, Split

MOST_VALIDATION = 1_000  # queries held out of a training set that comes as one piece


@dataclass(frozen=True)
class Protocol:
    """A rule, what a report says about it, and what `Split` calls by the same names."""

    split: Callable[[Collection, int, Purpose], dict[str, np.ndarray]]
    text: str
    labels: Callable[[Collection, Purpose], Tensor] = lambda collection, _: (
        collection.labels
    )
    labelled: bool = True
    mixed: bool = False
    search_training: bool = False


PROTOCOLS: Registry[Protocol] = Registry("protocol")


def split_by(name: str, collection: Collection, seed: int, purpose: Purpose) -> Split:
    """Split a collection by a named protocol."""
    protocol = PROTOCOLS[name]
    ids = protocol.split(collection, seed, purpose)
    # int64 whatever the platform: ids go into the checksum
    parts = {part: torch.from_numpy(np.asarray(v, np.int64)) for part, v in ids.items()}
    labels = protocol.labels(collection, purpose)
    split = Split(
        collection.items,
        labels,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        database=parts["database"],
        purpose=purpose,
        protocol=name,
        coarse_labels=collection.coarse_labels,
        labelled=protocol.labelled,
        mixed=protocol.mixed,
        search_training=protocol.search_training,
    )
    empty = [part for part in ("train", "database") if not len(parts[part])]
    if not len(split.queries) or empty:
        raise ValueError(
            f"protocol {name} leaves no {', '.join(empty) or 'queries'} in a set of "
            f"{len(labels)} items; choose another protocol"
        )
    return split


def default_protocol(collection: Collection) -> str:
    """Follow the source where it has a train and a test set; draw at random elsewhere."""
    return "given" if {"train", "test"} <= set(collection.parts) else "random"


def _per_class(
    collection: Collection,
    seed: int,
    purpose: Purpose,
    sizes: Callable[[int], Sizes],
    own_pool: bool = False,
    search_train: bool = True,
    search_validation: bool = True,
) -> dict[str, np.ndarray]:
    """Draw class by class.

    Args:
        collection: what to split.
        seed: of the draw.
        purpose: "report" or "tune".
        sizes: of the parts, for a class of n items.
        own_pool: draw a test pool, even if the source has a test set.
        search_train: training items are in the database.
        search_validation: so are validation items in a report.
    """
    given = None if own_pool else collection.parts.get("test")
    pool = None if given is None else given.numpy()
    drawn = draw(collection.labels, sizes, seed, purpose, pool)
    absent = [drawn.test] if purpose == "report" else [drawn.pool]
    if purpose == "tune" or not search_validation:
        absent.append(drawn.validation)
    if not search_train:
        absent.append(drawn.train)
    database = np.setdiff1d(np.arange(len(collection.labels)), np.concatenate(absent))
    return _parts(drawn, database)


def _parts(drawn: Draw, database: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "train": drawn.train,
        "validation": drawn.validation,
        "test": drawn.test,
        "database": database,
    }


def _shares(count: int) -> Sizes:
    pool = count // 5
    validation = count // 10
    return Sizes(pool, -(-pool // 2), validation, count - pool - validation)


def _given(collection: Collection, seed: int, purpose: Purpose) -> dict[str, np.ndarray]:
    """Take over train and test; hold validation queries out of train, if none are given."""
    parts = {name: ids.numpy() for name, ids in collection.parts.items()}
    missing = [name for name in ("train", "test") if name not in parts]
    if missing:
        raise ValueError(
            f"protocol given needs a source that says what is {' and '.join(missing)}; "
            "this one does not: choose another protocol, such as random"
        )
    train, test = parts["train"], parts["test"]
    validation = parts.get("validation")
    if validation is None:
        validation = _held_out(collection, train, seed, purpose)
    database = parts.get("database", train)
    strays = np.intersect1d(test, np.union1d(train, np.union1d(validation, database)))
    if len(strays):
        raise ValueError(
            f"{len(strays)} test items (the first is item {strays[0]}) are also training, "
            "validation or database items; a query must not find itself"
        )
    if purpose == "tune":
        test, database = test[:0], np.setdiff1d(database, validation)
    train = np.setdiff1d(train, validation)
    return {"train": train, "validation": validation, "test": test, "database": database}


def _held_out(
    collection: Collection, train: np.ndarray, seed: int, purpose: Purpose
) -> np.ndarray:
    labels = collection.labels[train]
    classes = 1 if collection.multi_label else len(labels.unique())
    most = max(MOST_VALIDATION // classes, 1)

    def sizes(count: int) -> Sizes:
        return Sizes(0, 0, min(max(count // 10, 1), most), 0)

    return train[draw(labels, sizes, seed, purpose).validation]


def _unseen(collection: Collection, seed: int, purpose: Purpose) -> dict[str, np.ndarray]:
    """Train on half of the classes; retrieve among others. A seed draws the queries."""
    rng = seeded_stream(seed, purpose)
    sides = _sides(collection, rng, purpose)
    searched = np.flatnonzero(sides == ("test" if purpose == "report" else "validation"))
    queries, none = _fifth(collection, searched, rng), searched[:0]
    return {
        "train": np.flatnonzero(sides == "train"),
        "validation": none if purpose == "report" else queries,
        "test": queries if purpose == "report" else none,
        "database": np.setdiff1d(searched, queries),
    }


def _sides(
    collection: Collection, rng: np.random.Generator, purpose: Purpose
) -> np.ndarray:
    """Tell of each item whether its classes are for train, validation or test."""
    unseen, seen = _halves(collection)
    if not collection.multi_label:
        seen = rng.permutation(seen)
    rows = _rows(collection)
    is_test, is_validation = (
        rows[:, some].any(1) for some in (unseen, seen[: _kept_out(seen)])
    )
    if purpose == "report":  # nothing is chosen any more
        is_validation = np.zeros_like(is_validation)
    side = np.where(is_test, "test", np.where(is_validation, "validation", "train"))
    return np.where(rows.any(1), side, "none")


def _halves(collection: Collection) -> tuple[np.ndarray, np.ndarray]:
    """Divide the classes into unseen and seen ones, alike for all seeds.

    Class ids are drawn. Of multi-hot labels the rarer ones are unseen: an item with any of
    them is no training item, and so most items remain.
    """
    rows = _rows(collection)
    classes = np.flatnonzero(rows.any(0))
    if len(classes) < 8:
        raise ValueError(f"protocol unseen needs 8 classes at least, got {len(classes)}")
    order = fixed_stream().permutation(classes)
    if collection.multi_label:
        order = classes[np.argsort(rows[:, classes].sum(0), kind="stable")]
    unseen, seen = np.split(order, [len(classes) - len(classes) // 2])
    return unseen, seen


def _kept_out(seen: np.ndarray) -> int:
    return max(2, len(seen) // 5)


def _unseen_labels(collection: Collection, purpose: Purpose) -> Tensor:
    """Strike out what a multi-hot item shares with items of other sides."""
    if not collection.multi_label:
        return collection.labels
    unseen, seen = _halves(collection)
    labels = collection.labels.clone()
    rest = torch.ones(len(labels), dtype=torch.bool)
    kept_out = [seen[: _kept_out(seen)]] if purpose == "tune" else []
    for own in (unseen, *kept_out):
        side = rest & (labels[:, own] > 0).any(1)
        others = np.setdiff1d(np.arange(labels.shape[1]), own)
        labels[:, others] *= ~side[:, None]
        rest &= ~side
    return labels


def _rows(collection: Collection) -> np.ndarray:
    labels = collection.labels.numpy()
    if collection.multi_label:
        return labels > 0
    return labels[:, None] == np.arange(labels.max() + 1)


def _fifth(collection: Collection, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the fifth of each class that searches, at most 100."""
    drawn = [ids[:0]]
    for _, places in groups(collection.labels[ids]):
        count = len(places) // 5
        most = count if collection.multi_label else min(count, 100)
        drawn.append(ids[rng.permutation(places)[:most]])
    return np.sort(np.concatenate(drawn))


def _both(collection: Collection, seed: int, purpose: Purpose) -> dict[str, np.ndarray]:
    """Search classes that were trained on and others in one database."""
    if collection.multi_label:
        raise ValueError("protocol both needs one class an item; these items have several")
    rng = seeded_stream(seed, purpose)
    unseen, seen = _halves(collection)
    pool, rest = _pool(collection)
    known = pool if purpose == "report" else rest[:0]
    if purpose == "tune":  # some of the classes play unseen ones, and the pool has no part
        seen = rng.permutation(seen)
        unseen, seen = np.split(seen, [_kept_out(seen)])
    labels = collection.labels.numpy()

    def of(items: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return items[np.isin(labels[items], classes)]

    everything = rest if purpose == "tune" else np.arange(len(labels))
    items = of(everything, seen)
    asking = _fifth(collection, items, rng)
    if purpose == "report":
        asking = _half(collection, of(known, seen), rng)
    others = np.setdiff1d(items, asking)
    train = _half(collection, np.setdiff1d(others, known), rng)
    strangers = of(everything, unseen)
    asking = np.union1d(asking, _fifth(collection, strangers, rng))
    database = np.setdiff1d(np.union1d(others, strangers), np.union1d(asking, train))
    none = asking[:0]
    return {
        "train": train,
        "validation": none if purpose == "report" else asking,
        "test": asking if purpose == "report" else none,
        "database": database,
    }


def _unlabelled(
    collection: Collection, seed: int, purpose: Purpose
) -> dict[str, np.ndarray]:
    """Learn from the items that are searched; queries are others."""
    rng = seeded_stream(seed, purpose)
    pool, rest = _pool(collection)
    if purpose == "report":
        queries = _half(collection, pool, rng)
        database = np.setdiff1d(np.arange(len(collection.labels)), queries)
    else:
        queries = _fifth(collection, rest, rng)
        database = np.setdiff1d(rest, queries)
    none = queries[:0]
    return {
        "train": database,
        "validation": none if purpose == "report" else queries,
        "test": queries if purpose == "report" else none,
        "database": database,
    }


def _pool(collection: Collection) -> tuple[np.ndarray, np.ndarray]:
    """Divide all items, class by class: a fifth that may search in reports, and the rest.

    It is the same for all seeds.
    """
    rng = fixed_stream()
    parts = [
        np.split(rng.permutation(places), [len(places) // 5])
        for _, places in groups(collection.labels)
    ]
    pool, rest = (np.sort(np.concatenate(each)) for each in zip(*parts, strict=True))
    return pool, rest


def _half(collection: Collection, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw half of each class, rounded up."""
    drawn = [
        ids[rng.permutation(places)[: -(-len(places) // 2)]]
        for _, places in groups(collection.labels[ids])
    ]
    return np.sort(np.concatenate([ids[:0], *drawn]))


def _two_fifths(count: int) -> Sizes:
    pool = count // 5
    return Sizes(pool, -(-pool // 2), count // 10, count * 2 // 5)


def _cifar(sizes: Sizes, **options: Any) -> Callable[..., dict[str, np.ndarray]]:
    return partial(_per_class, sizes=lambda _: sizes, **options)


_SEEDED = "Each seed draws its own split, class by class ({sizes})."
for _name, _split, _text in (
    (
        "digits",
        _cifar(Sizes(pool=60, test=20, validation=10, train=70), search_validation=False),
        f"{_SEEDED} The database is everything that is no query, training items included.",
    ),
    (
        "random",
        partial(_per_class, sizes=_shares, own_pool=True),
        "Each seed draws its own split ({sizes}), class by class if an item has one class: "
        "queries are half of a fixed test pool of 20 %, another 10 % are for validation, "
        "70 % are trained on. The database is everything that is no test query.",
    ),
    (
        "given",
        _given,
        "Train and test are those of the source ({sizes}), the same for every seed, but "
        "for validation queries, which each seed holds out of train (10 %, at most "
        f"{MOST_VALIDATION:,}) unless the source has its own. The database is that of the "
        "source, or its training set with these validation items in it.",
    ),
    (
        "C-A",
        _cifar(Sizes(1_000, 100, 100, 500), search_train=False),
        f"C-A. {_SEEDED} The database is everything that is neither query nor trained on. "
        "Queries are drawn from the test set of the source; papers draw from all images.",
    ),
    (
        "C-B",
        _cifar(Sizes(1_000, 100, 100, 500)),
        f"C-B. {_SEEDED} The database is everything that is no query, training items "
        "included. Queries are drawn from the test set of the source; papers draw from all "
        "images.",
    ),
    (
        "C-C",
        _cifar(Sizes(1_000, 1_000, 100, 4_900), own_pool=True),
        "C-C ({sizes}). All images are divided anew, class by class, once for all seeds; "
        "each seed holds validation queries out of train (papers train on these as well). "
        "The database is the training set with these validation items in it.",
    ),
    (
        "C-D",
        _cifar(Sizes(1_000, 1_000, 100, 500)),
        "C-D ({sizes}). The test set of the source searches the rest; each seed draws its "
        "own training and validation items, class by class.",
    ),
):
    PROTOCOLS.add(_name, Protocol(_split, _text))
PROTOCOLS.add(
    "C-C'",
    Protocol(
        _given,
        f"C-C'. {PROTOCOLS['given'].text} Papers train on the validation items as well.",
    ),
)
PROTOCOLS.add(
    "unseen",
    Protocol(
        _unseen,
        "Unseen classes ({sizes}), for a catalogue that gets new classes: trained on half "
        "of the classes. Queries (a fifth of each class, at most 100; a fifth of all items "
        "with several labels) and database are of the other half, the same for every "
        "seed. With several labels an item the rarer ones are unseen; they alone count. "
        "Settings are chosen among a fifth of the training classes.",
        _unseen_labels,
    ),
)
PROTOCOLS.add(
    "seen",
    Protocol(
        partial(_per_class, sizes=_two_fifths, own_pool=True, search_train=False),
        "Seen classes ({sizes}), for a catalogue whose classes are known, with new items: "
        "each seed draws its own split, class by class if an item has one class. Queries "
        "are half of a fixed test pool of 20 %, another 10 % are for validation, 40 % are "
        "trained on. The database is free of training items; one metric puts them in.",
        search_training=True,
    ),
)
PROTOCOLS.add(
    "both",
    Protocol(
        _both,
        "Seen and unseen classes in one database ({sizes}), for a catalogue that grows: "
        "half of the classes are unseen, the same for every seed. Of the seen ones half of "
        "the items are trained on, less the queries, which are half of a fixed pool of "
        "20 %; of the unseen ones a fifth searches, at most 100 a class. The database is "
        "everything else of both, without training items.",
        mixed=True,
    ),
)
PROTOCOLS.add(
    "unlabelled",
    Protocol(
        _unlabelled,
        "No labels ({sizes}), for embeddings that nobody has labelled: training items are "
        "those of the database, and labels judge alone. Each seed draws half of a fixed "
        "pool of 20 % for queries, class by class if an item has one class.",
        labelled=False,
    ),
)
