"""Data in an order that is kept or refused, and outputs that have no sign."""

import numpy as np
import pandas
import pytest
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.retrieval import HashEncoder

X = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))


def encoder(**options):
    torch.manual_seed(0)
    return HashEncoder(nn.Identity(), nn.Linear(6, 16), batch_size=4, **options)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_series_is_read_in_its_order_whatever_its_labels(workers, tmp_path):
    expected = encoder().encode(X)
    labels = np.random.default_rng(0).permutation(20)
    series = pandas.Series(list(X), index=labels)
    coder = encoder(num_workers=workers)
    assert torch.equal(coder.encode(series), expected)
    assert torch.equal(coder.encode(series[::2]), expected[::2])
    path = coder.encode_to_file(series, tmp_path / "codes.npy")
    assert np.array_equal(np.load(path), expected)
    names = pandas.Series(list(range(20)), index=[f"{i}" for i in labels])
    coder.transform = X.__getitem__
    assert torch.equal(coder.encode(names), expected)


def test_a_table_of_numbers_is_an_array():
    table = pandas.DataFrame(X.numpy(), index=range(20, 0, -1))
    assert torch.equal(encoder().encode(table), encoder().encode(X))
    with pytest.raises(TypeError, match="columns of this DataFrame are not all numbers"):
        encoder().encode(table.assign(name="x"))


DATASET = TensorDataset(X, torch.arange(20))


class Stream(IterableDataset):
    def __iter__(self):
        yield from X


def loader(**options):
    return DataLoader(options.pop("dataset", DATASET), **{"batch_size": 3, **options})


@pytest.mark.parametrize(
    "data",
    [
        loader(),
        loader(sampler=SequentialSampler(DATASET)),
        loader(sampler=list(range(20))),
        loader(batch_size=5, drop_last=True),
        loader(dataset=Stream()),
        loader(num_workers=1),
    ],
)
def test_loaders_that_keep_the_order(data):
    assert torch.equal(encoder().encode(data), encoder().encode(X))


def test_a_loader_with_a_list_of_rows_gives_these_rows():
    rows = [4, 2, 9]
    codes = encoder().encode(loader(sampler=rows))
    assert torch.equal(codes, encoder().encode(X[rows]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (loader(shuffle=True), r"order of a RandomSampler.*loader\.dataset"),
        (
            loader(sampler=WeightedRandomSampler([1.0] * 20, 20)),
            r"order of a WeightedRandomSampler.*loader\.dataset",
        ),
        (loader(drop_last=True), r"drops its last batch.*loader\.dataset"),
        (loader(dataset=Stream(), drop_last=True), "drops its last batch"),
        (loader(dataset=Stream(), num_workers=2), "2 workers read this stream"),
        (loader(num_workers=2, in_order=False), "in_order=False, so rows change places"),
    ],
)
def test_loaders_whose_order_nobody_knows_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        encoder().encode(data)


def refused(head, batch_size):
    x = X.repeat(10, 1)
    with pytest.raises(ValueError, match="so every code would be the same: use the"):
        HashEncoder(nn.Identity(), head, batch_size=batch_size).encode(x)


class Squashed(nn.Module):
    def __init__(self, squash, scale=1.0):
        super().__init__()
        self.linear, self.squash, self.scale = nn.Linear(6, 16), squash, scale

    def forward(self, x):
        return self.squash(self.scale * self.linear(x))


@pytest.mark.parametrize("batch_size", [1, 4, 200])
@pytest.mark.parametrize(
    "head",
    [
        Squashed(torch.relu),
        Squashed(torch.sigmoid, 9.0),
        Squashed(lambda u: (u > 0).float()),
        Squashed(lambda u: u * 0),
        Squashed(torch.abs),
    ],
    ids=["relu", "sigmoid", "0/1", "zeros", "abs"],
)
def test_outputs_that_are_never_negative_are_refused(head, batch_size):
    refused(head, batch_size=batch_size)


@pytest.mark.parametrize(
    "last", [nn.ReLU(), nn.Sigmoid(), nn.Softmax(1), nn.Softplus(), nn.ReLU6()]
)
def test_heads_that_end_in_such_a_layer_are_refused_at_once(last):
    with pytest.raises(ValueError, match=f"ends in {type(last).__name__}.*before the"):
        HashEncoder(nn.Identity(), nn.Sequential(nn.Linear(6, 16), nn.Sequential(last)))


def test_what_may_be_right_is_not_refused():
    """Items of one class, whose codeword may be all +1."""
    x = 2.0 + 0.3 * torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    for outputs in (x, torch.tanh(x)):
        with pytest.warns(UserWarning, match="no output for 200 rows is negative"):
            HashEncoder(nn.Identity(), nn.Identity()).encode(outputs)
    HashEncoder(nn.Identity(), nn.Identity()).encode(torch.rand(31, 16))  # too few
    HashEncoder(nn.Identity(), nn.Identity()).encode(torch.rand(200, 4))
    later = torch.cat([x, -x])
    HashEncoder(nn.Identity(), nn.Identity()).encode(later)
    head = ProgressiveHead(6, (16,))
    HashEncoder(nn.Identity(), head).encode(X)
