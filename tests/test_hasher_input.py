"""Embeddings as they come: in any unit, under any default dtype, with names of columns."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pml_nmlayer import Hasher, hasher
from pml_nmlayer.adaptation import fit_codes


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x[:400].astype(np.float32), y[:400]


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr(hasher, "fit_codes", partial(fit_codes, steps=3))


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("power", [-60, 70, 115])
def test_the_unit_of_embeddings_does_not_matter(digits, labelled, power):
    x, y = digits[0], digits[1].copy()
    y[200:] = -1
    y = y if labelled else None
    moved = np.ldexp(x, power)  # exactly the same numbers, in another unit
    codes = Hasher(bits=12).fit(x, y).encode(x)
    assert len(np.unique(codes, axis=0)) > 9
    assert (Hasher(bits=12).fit(moved, y).encode(moved) == codes).all()


def test_the_default_dtype_of_torch_does_not_matter(digits):
    x, y = digits[0], digits[1].copy()
    y[200:] = -1
    wanted = Hasher(bits=12).fit(x, y).outputs(x)
    torch.set_default_dtype(torch.float64)
    try:
        found = Hasher(bits=12).fit(x, y).outputs(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_columns_of_a_data_frame_keep_their_order(digits):
    pandas = pytest.importorskip("pandas")
    x = digits[0]
    frame = pandas.DataFrame(x, columns=[f"f{i}" for i in range(64)])
    hasher = Hasher(bits=8).fit(frame)
    codes = hasher.encode(frame)
    assert (hasher.encode(x) == codes).all()
    with pytest.raises(ValueError, match=r"feature names should match.*\['f0'.*\['f63'"):
        hasher.encode(frame[frame.columns[::-1]])
    assert not hasattr(hasher.fit(x), "feature_names_in_")
