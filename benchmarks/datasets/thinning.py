"""A small part of a large set: of each class, and of each part of the source, its share."""

from dataclasses import replace

import numpy as np
import torch

from .draws import fixed_stream, groups
from .interface import Collection, ImageFiles, Items


def thinned(collection: Collection, most: int) -> Collection:
    """Keep about as many items as asked for, the same ones whatever the seed of a run.

    Args:
        collection: before it is split.
        most: items that are kept at most; a set that has no more stays as it is.

    Raises:
        ValueError: nothing would be left of a class.
    """
    count = len(collection.items)
    if most >= count:
        return collection
    kept = [part[: len(part) * most // count] for part in _strata(collection)]
    ids = np.sort(np.concatenate(kept))
    lost = len(collection.labels.unique(dim=0)) - len(collection.labels[ids].unique(dim=0))
    if not collection.multi_label and lost:
        raise ValueError(f"{most} of {count} items are too few: {lost} classes vanish")
    place = torch.full((count,), -1)
    place[ids] = torch.arange(len(ids))
    parts = {name: place[own] for name, own in collection.parts.items()}
    coarse = collection.coarse_labels
    return replace(
        collection,
        items=_picked(collection.items, ids),
        labels=collection.labels[ids],
        parts={name: own[own >= 0] for name, own in parts.items()},
        coarse_labels=None if coarse is None else coarse[ids],
    )


def _strata(collection: Collection) -> list[np.ndarray]:
    """Shuffle what is drawn from evenly: a class within a combination of parts."""
    rng = fixed_stream()
    membership = np.zeros(len(collection.items), dtype=np.int64)
    for place, ids in enumerate(collection.parts.values()):
        membership[ids.numpy()] += 2**place
    return [
        rng.permutation(own)
        for _, members in groups(collection.labels)
        for kind in np.unique(membership[members])
        if len(own := members[membership[members] == kind])
    ]


def _picked(items: Items, ids: np.ndarray) -> Items:
    if isinstance(items, ImageFiles):
        return ImageFiles(items.root, tuple(items.names[place] for place in ids))
    return items[ids]
