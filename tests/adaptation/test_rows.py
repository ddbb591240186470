"""What a row of labels means, and which rows are left out."""

import itertools

import numpy as np
import pytest
import torch

from pml_nmlayer import Hasher
from pml_nmlayer.adaptation import fit_codes
from pml_nmlayer.adaptation.beliefs import better_than_chance, hits_by_chance, read_beliefs
from pml_nmlayer.adaptation.rows import read_labels, without_copies
from pml_nmlayer.ranking import mean_average_precision

NAN = float("nan")


@pytest.mark.parametrize(
    "y",
    [
        [1, None, 2],
        ["a", None, "b"],
        ["a", NAN, "b"],
        ("a", "", "b"),
        np.array([1, NAN, 2]),
        np.array(["a", "", "b"]),
        np.array([b"a", b"", b"b"]),
        np.array(["a", None, "b"], dtype=object),
        torch.tensor([1, NAN, 2]),
    ],
    ids=repr,
)
def test_missing_labels_are_refused(y):
    with pytest.raises(ValueError, match=r"no label .* for 1 of 3 items; write -1"):
        read_labels(y, 3)


def test_labels_that_pandas_misses_are_refused():
    pd = pytest.importorskip("pandas")
    for y in (
        pd.Series(["a", None, "b"]),
        pd.Series(["a", pd.NA, "b"], dtype="string"),
        pd.array([1, None, 2], dtype="Int64"),
        pd.Categorical(["a", None, "b"]),
    ):
        with pytest.raises(ValueError, match="for 1 of 3 items"):
            read_labels(y, 3)


@pytest.mark.parametrize(
    "y",
    [
        [4, -1, 7],
        [4.0, -1.0, 7.0],
        ["a", -1, "b"],
        ["a", -1.0, "b"],
        ["a", "-1", "b"],
        np.array(["a", "-1.0", "b"]),
        np.array([b"a", b"-1", b"b"]),
        np.array(["a", -1, "b"], dtype=object),
    ],
    ids=repr,
)
def test_minus_one_is_unlabelled_in_any_form(y):
    found = read_labels(y, 3)
    assert found.classes.tolist() == [0, -1, 1]
    assert len(found.names) == 2


def test_copies_are_left_out_where_there_are_many():
    x = np.random.default_rng(0).random((40, 5), np.float32)
    rows = torch.arange(40)
    assert without_copies(x, rows) is rows
    one_copy = x.copy()
    one_copy[7] = one_copy[3]
    assert without_copies(one_copy, rows) is rows
    many = np.concatenate([x, x[:10]])
    assert torch.equal(without_copies(many, torch.arange(50)), rows)
    assert torch.equal(without_copies(torch.from_numpy(many), torch.arange(50)), rows)
    assert len(without_copies(x, rows[:0])) == 0


def clusters(classes=8, each=60, width=16):
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(classes).repeat_interleave(each)
    centres = torch.randn(classes, width, generator=generator)
    x = centres[truth] + 0.7 * torch.randn(len(truth), width, generator=generator)
    return x, truth


def quality(hasher, x, truth):
    codes = torch.from_numpy(np.where(hasher.outputs(x) >= 0, 1.0, -1.0))
    return mean_average_precision(codes, truth, codes, truth)


def test_copies_do_not_break_the_graph():
    x, truth = clusters()
    once = quality(Hasher(bits=16).fit(x), x, truth)
    often = quality(Hasher(bits=16).fit(x.repeat(12, 1)), x, truth)
    assert once > 0.7
    assert often > once - 0.05


def test_labels_that_say_nothing_are_not_believed():
    x, truth = clusters()
    drawn = torch.randint(8, truth.shape, generator=torch.Generator().manual_seed(1))
    beliefs = []
    for y in (drawn, truth):
        y = torch.where(torch.arange(len(y)) % 4 == 0, y, -1)
        labels, labelled = read_labels(y, len(y)), torch.nonzero(y >= 0).flatten()
        others = x[y < 0]
        beliefs.append(read_beliefs(x[labelled], others, labels, labelled, seed=0))
    assert beliefs[0].scores is None
    assert beliefs[0].known.sum() == len(x) // 4
    assert beliefs[1].scores is not None
    without = quality(Hasher(bits=16).fit(x), x, truth)
    y = torch.where(torch.arange(len(x)) % 4 == 0, drawn, -1)
    assert quality(Hasher(bits=16).fit(x, y), x, truth) > without - 0.1


def test_chance_is_that_of_all_orders():
    """The moments over all orders of the predictions, enumerated."""
    found, classes = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 1, 2])
    orders = itertools.permutations(found.tolist())
    hits = [sum(f == c for f, c in zip(o, classes.tolist(), strict=True)) for o in orders]
    mean, deviation = hits_by_chance(found, classes)
    assert mean == pytest.approx(np.mean(hits))
    assert deviation == pytest.approx(np.std(hits))


def test_few_items_of_a_second_class_are_enough_to_be_believed():
    classes = (torch.arange(100) < 6).long()
    assert better_than_chance(classes, classes)  # the largest class alone has 94 of 100
    assert not better_than_chance(torch.zeros_like(classes), classes)
    assert not better_than_chance(classes.roll(50), classes)
    drawn = torch.randint(5, (400,), generator=torch.Generator().manual_seed(0))
    assert not better_than_chance(drawn.roll(1), drawn)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, None, np.random.default_rng(0)])
def test_seeds_that_are_none_are_refused(seed):
    with pytest.raises(ValueError, match="random_state must be a whole number from 0"):
        fit_codes(torch.randn(20, 4), bits=4, random_state=seed)


def test_seeds_may_be_numbers_of_numpy():
    x = torch.randn(30, 4)
    one, other = (fit_codes(x, bits=4, random_state=s) for s in (3, np.int64(3)))
    assert torch.equal(one.module(x), other.module(x))


def test_a_few_labels_of_two_classes_are_enough():
    classes = torch.arange(10) % 2
    assert better_than_chance(classes, classes)
    one_wrong = classes.clone()
    one_wrong[0] = 1
    assert not better_than_chance(one_wrong, classes)
    assert not better_than_chance(classes[:6], classes[:6])  # 1 of 20 orders is as good


def test_one_class_for_all_items_says_nothing():
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    alone = fit_codes(x, torch.zeros(60, dtype=torch.int64), bits=8, steps=3).module(x)
    assert torch.equal(alone, fit_codes(x, bits=8, steps=3).module(x))
    assert (read_labels([[0, 1]] * 3, 3).classes == -1).all()
    assert read_labels([4, 4, -1], 3).classes.tolist() == [0, 0, -1]


def test_a_few_items_have_codes_of_their_own():
    x = torch.randn(12, 16, generator=torch.Generator().manual_seed(0))
    codes = fit_codes(x, bits=16).module(x) >= 0
    assert len(codes.unique(dim=0)) >= 8


def test_labels_may_be_of_any_dtype_of_torch():
    y = torch.tensor([0.0, 1.0, -1.0])
    for dtype in (torch.bfloat16, torch.float16, torch.int8):
        assert read_labels(y.to(dtype), 3).classes.tolist() == [0, 1, -1]
