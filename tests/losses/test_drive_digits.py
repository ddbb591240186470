"""Every loss teaches a small network real codes: digits at 24 bits."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from pml_nmlayer.codes import binarize
from pml_nmlayer.ranking import mean_average_precision
from tests.compatibility import our_classes

BITS, CLASSES, EPOCHS = 24, 10, 20


def judge(network, x, y):
    """MAP@all of 200 queries against the other items, ties in expectation."""
    with torch.no_grad():
        codes = binarize(network(x))
    return mean_average_precision(codes[:200], y[:200], codes[200:], y[200:])


@pytest.mark.parametrize("cls", our_classes(), ids=lambda cls: cls.__name__)
def test_gains_15_points(cls):
    pixels, y = (torch.tensor(a) for a in load_digits(return_X_y=True))
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, y = pixels[order].float() / 16, y[order]
    network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, BITS))
    try:
        loss = cls(num_classes=CLASSES, embedding_size=BITS)
    except TypeError:
        loss = cls()
    untrained = judge(network, x, y)
    parameters = [*network.parameters(), *loss.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(700).add(200).split(100):
            optimizer.zero_grad()
            loss(network(x[rows]), y[rows]).backward()
            optimizer.step()
    assert judge(network, x, y) > untrained + 0.15
