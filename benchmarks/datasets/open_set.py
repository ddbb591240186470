"""Protocols whose queries ask for classes that training did not show, or had no labels."""

import numpy as np
import torch
from torch import Tensor

from .draws import fixed_stream, groups, seeded_stream
from .interface import Collection, Purpose
from .protocols import PROTOCOLS, Protocol


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
