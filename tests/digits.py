"""Handwritten digits, small: real data that every machine has."""

import functools

import torch
from sklearn.datasets import load_digits
from torch import nn

from pml_nmlayer.layers import ProgressiveHead


@functools.cache
def digits():
    """500 training images and 200 queries -> two TensorDatasets of (pixels, class)."""
    data = load_digits()
    x = torch.tensor(data.data, dtype=torch.float32) / 16
    y = torch.tensor(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:500], order[500:700]
    return (
        torch.utils.data.TensorDataset(x[train], y[train]),
        torch.utils.data.TensorDataset(x[test], y[test]),
    )


def trunk_and_head(bits=(24, 12, 6), **kwargs):
    trunk = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
    return trunk, ProgressiveHead(64, bits, **kwargs)
