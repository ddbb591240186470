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
from .draws import Draw, Sizes, draw
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
