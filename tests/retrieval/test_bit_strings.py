import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pml_nmlayer.codes import pack_codes
from pml_nmlayer.retrieval import bit_strings_to_codes, codes_to_bit_strings

from .hash_index_cases import random_codes


@given(bits=st.integers(1, 130), n=st.integers(1, 20), seed=st.integers(0, 99))
def test_inverse_and_equal_to_a_loop(bits, n, seed):
    codes = random_codes(n, bits, seed)
    strings = codes_to_bit_strings(codes)
    assert strings == [
        "".join("1" if b == 1 else "0" for b in row) for row in codes.tolist()
    ]
    assert codes_to_bit_strings(pack_codes(codes), bits) == strings
    back = bit_strings_to_codes(strings)
    torch.testing.assert_close(back, codes.float(), rtol=0, atol=0)


def test_no_codes():
    assert codes_to_bit_strings(torch.empty(0, 12)) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: codes_to_bit_strings(np.zeros((1, 2), np.uint8)), "pass bits="),
        (lambda: codes_to_bit_strings(random_codes(1, 8), 9), "8 bits, expected 9"),
        (lambda: codes_to_bit_strings(torch.ones(8)), r"shape \(N, K\)"),
        (lambda: bit_strings_to_codes([]), "got 0 strings of lengths"),
        (lambda: bit_strings_to_codes(["01", "011"]), r"2 strings of lengths \[2, 3\]"),
        (lambda: bit_strings_to_codes([""]), r"lengths \[0\]"),
        (lambda: bit_strings_to_codes(["012"]), r"0 and 1 only, got \['2'\]"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
