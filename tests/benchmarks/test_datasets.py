import numpy as np
import pytest
import torch

from benchmarks.datasets import DATASETS, Sizes, split_per_class


def digits(seed, purpose="report"):
    return DATASETS["digits"](seed, purpose)


def test_sizes_class_by_class():
    split = digits(3)
    sizes = {name: len(ids) for name, ids in split.parts().items()}
    assert sizes == {"train": 700, "validation": 100, "test": 200, "database": 1497}
    for part, count in (("train", 70), ("validation", 10), ("test", 20)):
        labels = split.labels[split.parts()[part]]
        assert torch.bincount(labels).tolist() == [count] * 10
    assert 0 <= split.features.min()
    assert split.features.max() == 1


def test_the_database_is_everything_that_is_no_query():
    split = digits(0)
    parts = {name: set(ids.tolist()) for name, ids in split.parts().items()}
    assert not parts["test"] & parts["validation"]
    assert parts["database"] == set(range(1797)) - parts["test"] - parts["validation"]
    assert parts["train"] < parts["database"]
    assert torch.equal(split.queries, split.test)


def test_tuning_never_sees_a_test_query_of_any_seed():
    tuning = digits(0, "tune")
    seen = {int(i) for ids in tuning.parts().values() for i in ids}
    tested = {int(i) for seed in range(30) for i in digits(seed).test}
    assert len(tested) > 400  # the seeds do draw different queries
    assert not seen & tested
    assert len(tuning.test) == 0
    assert torch.equal(tuning.queries, tuning.validation)
    assert not set(tuning.queries.tolist()) & set(tuning.database.tolist())
    assert set(tuning.train.tolist()) < set(tuning.database.tolist())


def test_the_checksum_follows_seed_purpose_and_data():
    sums = {digits(0).checksum(), digits(1).checksum(), digits(0, "tune").checksum()}
    assert len(sums) == 3
    assert digits(0).checksum() in sums
    assert all(len(text) == 64 for text in sums)

    features, labels = torch.rand(20, 3), torch.arange(20) % 2
    sizes = Sizes(pool=4, test=2, validation=2, train=3)
    split = split_per_class(features, labels, sizes, 0, "report")
    other = split_per_class(features + 1, labels, sizes, 0, "report")
    assert torch.equal(split.test, other.test)
    assert split.checksum() != other.checksum()


def test_the_split_is_the_same_on_every_machine():
    # Written down once: published numbers rest on these queries.
    assert digits(0).test[:8].tolist() == [1, 7, 9, 12, 15, 34, 51, 53]


def test_too_small_classes_are_refused():
    labels = torch.arange(20) % 2
    sizes = Sizes(pool=4, test=2, validation=2, train=5)
    with pytest.raises(ValueError, match="class 0 has 6 items outside a test pool of 4"):
        split_per_class(torch.zeros(20, 1), labels, sizes, 0, "report")


def test_ids_ascend():
    for ids in digits(5).parts().values():
        assert np.all(np.diff(ids.numpy()) > 0)
