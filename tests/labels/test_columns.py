import warnings

import numpy as np
import pytest
import torch

from pml_nmlayer.labels import check_not_a_column, width_of_rows

ROWS = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 0]])


@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_column_remembers_its_rows(column):
    assert width_of_rows(ROWS[:, column]) == 3
    array = torch.from_numpy(ROWS.numpy()[:, column])  # as PML cuts it
    assert width_of_rows(array) == 3


@pytest.mark.parametrize(
    "labels",
    [
        None,
        ROWS,
        ROWS[:, 0].contiguous(),
        torch.tensor([0, 1, 0, 1]),
        torch.tensor([0, 1, 0, 1, 1, 1])[::2],
        torch.tensor([[3, 1], [2, 0], [3, 1]])[:, 0],  # fine and coarse
        torch.arange(12)[::3],
        ROWS[:1, 0],
        torch.from_numpy(np.arange(12)[::3]),
    ],
)
def test_what_is_no_column_of_rows(labels):
    assert width_of_rows(labels) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not check_not_a_column(labels, 3)


def test_warns_or_refuses():
    with pytest.warns(UserWarning, match=r"one column of 3.*multilabel\(Trainer\)"):
        assert check_not_a_column(ROWS[:, 0], 7)
    with pytest.raises(ValueError, match="num_classes=3, so whole rows are meant"):
        check_not_a_column(ROWS[:, 0], 3)
