import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.samplers import MPerClassSampler
from torch.utils.data import DataLoader, TensorDataset

from pml_nmlayer.samplers import MultiLabelMPerClassSampler

IDS = torch.randint(0, 9, (200,), generator=torch.Generator().manual_seed(0))
ROWS = (torch.rand(300, 12, generator=torch.Generator().manual_seed(1)) < 0.15).long()


def batches(sampler, size):
    drawn = list(sampler)
    assert len(drawn) == len(sampler)
    assert len(drawn) % size == 0
    return [drawn[i : i + size] for i in range(0, len(drawn), size)]


@pytest.mark.parametrize("kind", [lambda y: y, lambda y: y.numpy(), lambda y: y.tolist()])
@pytest.mark.parametrize(
    ("m", "batch_size", "length"),
    [(4, 16, 100), (4, None, 100), (30, 60, 60), (5, 45, 1000), (3, None, 28)],
)
def test_class_ids_give_the_sequence_of_pml(kind, m, batch_size, length):
    np.random.seed(3)  # noqa: NPY002  PML draws from NumPy's global generator
    theirs = list(MPerClassSampler(IDS, m, batch_size, length))
    np.random.seed(3)  # noqa: NPY002
    sampler = MultiLabelMPerClassSampler(kind(IDS), m, batch_size, length)
    assert list(sampler) == theirs
    assert len(sampler) == len(theirs)


def test_length_counts_a_round_that_is_longer_than_asked_for():
    sampler = MultiLabelMPerClassSampler(IDS, m=4, length_before_new_iter=10)
    assert len(sampler) == len(list(sampler)) == 4 * 9
    assert len(MPerClassSampler(IDS, 4, None, 10)) == 10  # PML yields 36 as well


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_every_batch_holds_enough_of_enough_classes(m, classes, seed):
    sampler = MultiLabelMPerClassSampler(
        ROWS, m, batch_size=m * classes, length_before_new_iter=5 * m * classes, seed=seed
    )
    for batch in batches(sampler, m * classes):
        distinct = ROWS[sorted(set(batch))].sum(0)
        assert (distinct >= m).sum() >= classes
        assert len(set(batch)) == len(batch)  # every class has plenty of items here


def test_repeats_only_what_a_class_lacks():
    rows = torch.zeros(40, 3, dtype=torch.long)
    rows[:4, 0] = 1
    rows[3:7, 1] = 1  # item 3 is in both: whichever comes second finds three new items
    rows[7:, 2] = 1
    sampler = MultiLabelMPerClassSampler(rows, 4, 12, length_before_new_iter=600, seed=0)
    for batch in batches(sampler, 12):
        assert (rows[batch].sum(0) >= 4).all()
        assert set(batch) >= set(range(7))
        assert len(set(batch)) == 11


def test_items_without_labels_and_unused_classes_are_never_drawn():
    rows = torch.zeros(10, 5, dtype=torch.long)
    rows[:4, 1] = rows[4:8, 3] = 1
    sampler = MultiLabelMPerClassSampler(rows, 2, 4, length_before_new_iter=400, seed=0)
    assert set(sampler) == set(range(8))


def test_rare_classes_are_drawn_as_often_as_frequent_ones():
    rows = torch.zeros(1000, 4, dtype=torch.long)
    rows[:5, 0] = rows[5:10, 1] = rows[10:500, 2] = rows[500:, 3] = 1
    sampler = MultiLabelMPerClassSampler(rows, 5, 10, length_before_new_iter=4000, seed=0)
    counts = rows[list(sampler)].sum(0)
    assert counts.sum() == 4000
    assert (counts - 1000).abs().max() < 150


def test_seed_repeats_and_epochs_differ():
    def make(seed):
        return MultiLabelMPerClassSampler(ROWS, 3, 12, 60, seed=seed)

    first, again = make(5), make(5)
    epochs = [list(first), list(first)]
    assert epochs == [list(again), list(again)]
    assert epochs[0] != epochs[1]
    assert list(make(6)) != epochs[0]


def test_drives_a_data_loader():
    sampler = MultiLabelMPerClassSampler(ROWS, 4, 16, length_before_new_iter=80)
    dataset = TensorDataset(torch.arange(len(ROWS)), ROWS)
    loader = DataLoader(dataset, batch_size=16, sampler=sampler, drop_last=True)
    shapes = [labels.shape for _, labels in loader]
    assert shapes == [(16, 12)] * 5


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((IDS, 0), "m must be >= 1, a whole number; got 0"),
        ((IDS, 4, 10), r"multiple of m = 4 .* 9 classes in use = 36, got 10"),
        ((IDS, 4, 40), "at most m times the 9 classes in use = 36, got 40"),
        ((IDS, 4, 8, 7), "at least batch_size = 8, got 7"),
        ((torch.zeros(5, 3), 1), "no item has a label"),
        ((torch.full((5, 3), 2), 1), "must hold 0 and 1 only"),
        ((torch.zeros(5, 3, 1), 1), r"got shape \(5, 3, 1\)"),
    ],
)
def test_bad_input(args, message):
    with pytest.raises(ValueError, match=message):
        MultiLabelMPerClassSampler(*args)
