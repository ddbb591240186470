import copy
import pickle

import numpy as np
import pytest
import torch

from pml_nmlayer.labels import LabelMap, class_rows

HASHES = [2**63 + 5, 7, 2**64 - 1, 7]


@pytest.mark.parametrize(
    "ids",
    [
        torch.tensor([3, 1, 2, 3]),
        torch.tensor([-5, 1000, 12, -5]),
        np.array([3, 1, 2, 3]),
        np.array(HASHES, dtype=np.uint64),
        np.array(["owl", "cat", "owl", "bee"]),
        ["owl", "cat", "owl", "bee"],
        ("a", 1, None, "a"),
        HASHES,
    ],
    ids=str,
)
def test_there_and_back(ids):
    mapped = LabelMap(ids)
    numbers = mapped(ids)
    listed = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    assert numbers.dtype == torch.int64
    assert sorted(set(numbers.tolist())) == list(range(len(mapped)))
    assert mapped.inverse(numbers) == listed
    assert mapped(listed[1]) == numbers[1]
    assert class_rows(numbers, len(mapped)).sum() == len(listed)
    for other in (copy.deepcopy(mapped), pickle.loads(pickle.dumps(mapped))):
        assert other == mapped
        assert hash(other) == hash(mapped)


def test_order_of_the_ids_does_not_matter():
    assert LabelMap([3, 1, 2]) == LabelMap(torch.tensor([2, 2, 1, 3]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LabelMap([]), "no ids"),
        (lambda: LabelMap("owl"), "must be a list of ids, got str"),
        (lambda: LabelMap(torch.eye(2)), r"shape \(N,\), got \(2, 2\)"),
        (lambda: LabelMap([1.0, float("nan")]), "NaN, which is no class"),
        (lambda: LabelMap([1, 2])([1, 3]), r"has not seen \[3\]"),
        (lambda: LabelMap([1, 2])("x"), r"has not seen \['x'\]"),
        (lambda: LabelMap([1, 2]).inverse([2]), r"in \[0, 2\), got 2 to 2"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
