import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pml_nmlayer.labels import (
    check_label_pair,
    check_labels,
    class_rows,
    jaccard,
    shared_label,
    shared_label_count,
)
from tests import naive

ROWS = st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=4), min_size=1, max_size=5)


@given(ROWS, ROWS)
def test_multi_hot_equals_loop(rows, others):
    count = shared_label_count(torch.tensor(rows), torch.tensor(others))
    grades = jaccard(torch.tensor(rows), torch.tensor(others))
    for i, y in enumerate(rows):
        for j, z in enumerate(others):
            shared = naive.shared_labels(y, z)
            union = sum(1 for a, b in zip(y, z, strict=True) if a or b)
            assert count[i, j] == shared
            assert grades[i, j].item() == pytest.approx(shared / union if union else 0)


def test_one_hot_rows_are_class_ids():
    ids = torch.tensor([0, 2, 2, 1])
    rows = torch.nn.functional.one_hot(ids)
    for similarity in (shared_label, shared_label_count, jaccard):
        assert torch.equal(similarity(ids), similarity(rows))


def test_no_label_is_similar_to_nothing():
    rows = torch.tensor([[0, 0], [1, 0]])
    assert shared_label(rows).tolist() == [[False, False], [False, True]]
    assert jaccard(rows)[0, 0] == 0


def test_large_class_ids_stay_distinct():
    assert not shared_label(torch.tensor([2**24]), torch.tensor([2**24 + 1])).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_labels(torch.zeros(2, 2, 2), 2), r"shape \(B,\)"),
        (lambda: check_labels(torch.zeros(2), 3), "3 items but 2 labels"),
        (lambda: check_label_pair(torch.zeros(2), torch.zeros(2, 3)), "of one kind"),
        (lambda: check_label_pair(torch.zeros(2, 4), torch.zeros(2, 3)), "of one kind"),
        (lambda: check_label_pair(torch.full((2, 1), 3), torch.ones(2, 1)), "0 and 1"),
        (lambda: shared_label(torch.zeros(2), torch.zeros(2, 3)), "of one kind"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "id_dtype", [torch.int64, torch.int32, torch.uint8, torch.uint16, torch.uint64]
)
def test_class_rows(id_dtype, device):
    ids = torch.tensor([2, 0, 2], dtype=id_dtype, device=device)
    expected = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 0, 1]], device=device)
    assert torch.equal(class_rows(ids, 3), expected.float())
    assert torch.equal(class_rows(expected.bool(), 3), expected.float())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_rows(torch.tensor([0, 3]), 3), r"\[0, num_classes=3\), got 0"),
        (lambda: class_rows(torch.tensor([-1, 2]), 3), "got -1 to 2"),
        (lambda: class_rows(torch.tensor([0.0, 1.0]), 3), "must be integers"),
        (lambda: class_rows(torch.ones(2, 4), 3), "num_classes=3 columns, got 4"),
        (lambda: class_rows(torch.full((2, 3), 2), 3), "hold 0 and 1 only"),
    ],
)
def test_rows_refuse_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
