"""Codes that tests of HashIndex share."""

import torch

from pml_nmlayer.retrieval import HashIndex

NONE = 2**31 - 1  # the distance where nothing was found


def random_codes(n, bits, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (n, bits), generator=generator) * 2 - 1


def clustered_codes(n, bits, clusters=50, flip=0.1, seed=0):
    """Codes around cluster centres, each bit negated with probability `flip`."""
    generator = torch.Generator().manual_seed(seed)
    centres = random_codes(clusters, bits, seed=12345)
    chosen = torch.randint(0, clusters, (n,), generator=generator)
    flipped = torch.rand(n, bits, generator=generator) < flip
    return torch.where(flipped, -centres[chosen], centres[chosen])


def shuffled_ids(n, seed=0):
    """Distinct ids in no order, far from 0..n-1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(n, generator=generator) * 7 + 1000


def pairs(distances, ids):
    """Results as lists of (distance, id), without what stands for 'none'."""
    return [
        [(d, i) for d, i in zip(ds, ns, strict=True) if i != -1]
        for ds, ns in zip(distances.tolist(), ids.tolist(), strict=True)
    ]


def filled(kind, codes, ids=None, **options):
    index = HashIndex(codes.shape[1], kind, **options)
    if kind == "ivf":
        index.train(codes)
    index.add(codes, ids)
    return index
