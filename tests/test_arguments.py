"""Options get the type and range that they say; old names of arguments work and warn."""

import pytest

from pml_nmlayer.runtime.options import (
    check_choice,
    check_count,
    check_flag,
    check_number,
)
from pml_nmlayer.runtime.renamed import renamed


@renamed(q="query")
def function(query, reference=None, *, k=None, scale=1):
    return query, reference, k, scale


def test_new_names_are_silent():
    assert function(1, 2, k=3) == (1, 2, 3, 1)
    assert function(query=1) == (1, None, None, 1)


@pytest.mark.parametrize(
    ("call", "expected", "message"),
    [
        (lambda: function(q=1), (1, None, None, 1), "calls q= now query="),
        (lambda: function(1, 2, 3), (1, 2, 3, 1), "takes k by name only"),
        (lambda: function(1, 2, 3, 4), (1, 2, 3, 4), "takes k, scale by name only"),
    ],
)
def test_the_old_way_warns(call, expected, message):
    with pytest.warns(DeprecationWarning, match=message):
        assert call() == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: function(1, 2, 3, 4, 5), "takes 2 arguments by position, got 5"),
        (lambda: function(1, q=1), "got query twice"),
        (lambda: function(1, 2, 3, k=3), "got k twice"),
        (lambda: function(1, r=1), "unexpected keyword argument 'r'"),
    ],
)
def test_refuses_as_python_does(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: check_count("k", 2.5),
            TypeError,
            "k must be >= 1, a whole number; got 2.5",
        ),
        (lambda: check_count("k", 2.0), TypeError, "got 2.0"),
        (lambda: check_count("k", True), TypeError, "got True"),
        (lambda: check_count("k", "3"), TypeError, "got '3'"),
        (lambda: check_count("k", None), TypeError, "got None"),
        (lambda: check_count("k", 0), ValueError, "got 0"),
        (lambda: check_count("k", 9, most=8), ValueError, "<= 8, a whole number; got 9"),
        (lambda: check_count("k", 0, none="all"), ValueError, "or None for all; got 0"),
        (lambda: check_number("w", float("nan"), least=0), ValueError, ">= 0, got nan"),
        (lambda: check_number("w", float("inf")), ValueError, "finite number, got inf"),
        (lambda: check_number("w", -1, least=0), ValueError, "must be >= 0, got -1"),
        (lambda: check_number("w", 0, above=0), ValueError, "must be > 0, got 0"),
        (lambda: check_number("w", 1, least=0, below=1), ValueError, ">= 0 and < 1, got 1"),
        (lambda: check_number("w", "1"), TypeError, "a number; got '1'"),
        (lambda: check_number("w", True), TypeError, "got True"),
        (lambda: check_number("w", None), TypeError, "got None"),
        (lambda: check_flag("f", 1), TypeError, "True or False, got 1"),
        (
            lambda: check_choice("o", "x", ("a", None)),
            ValueError,
            "one of a, None; got 'x'",
        ),
        (lambda: check_choice("o", 1, (True,)), ValueError, "got 1"),
    ],
)
def test_options(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_options_that_are_right():
    check_count("k", 1)
    check_count("k", None, none="all")
    check_number("w", 0, least=0)
    check_flag("f", False)
    check_choice("o", None, ("a", None))
