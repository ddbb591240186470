"""Signed bytes, hexadecimal strings and 64-bit words, against loops over strings."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pml_nmlayer.codes import pack_codes
from pml_nmlayer.retrieval import (
    codes_to_bit_strings,
    codes_to_hex,
    codes_to_signed_bytes,
    codes_to_words,
    hex_to_codes,
    signed_bytes_to_codes,
    words_to_codes,
)

from .hash_index_cases import random_codes


def pieces(text, size):
    padded = text.ljust(-(-len(text) // size) * size, "0")
    return [int(padded[i : i + size], 2) for i in range(0, len(padded), size)]


@given(bits=st.integers(1, 200), n=st.integers(0, 9), seed=st.integers(0, 99))
def test_inverse_and_equal_to_loops(bits, n, seed):
    codes = random_codes(n, bits, seed)
    texts = codes_to_bit_strings(codes)
    number_of_bytes = [pieces(text, 8) for text in texts]
    signed = [[b - 256 if b > 127 else b for b in row] for row in number_of_bytes]
    words = [pieces(text, 64) for text in texts]
    for given_codes, arguments in ((codes, ()), (pack_codes(codes), (bits,))):
        found = codes_to_signed_bytes(given_codes, *arguments)
        assert (found.dtype, found.tolist()) == (np.int8, signed)
        hexes = codes_to_hex(given_codes, *arguments)
        assert hexes == [bytes(row).hex() for row in number_of_bytes]
        unsigned = codes_to_words(given_codes, *arguments)
        assert (unsigned.dtype, unsigned.tolist()) == (np.uint64, words)
        as_int64 = codes_to_words(given_codes, *arguments, signed=True)
        assert as_int64.dtype == np.int64
        assert [[w % 2**64 for w in row] for row in as_int64.tolist()] == words
    for back in (
        signed_bytes_to_codes(found, bits),
        signed_bytes_to_codes(torch.from_numpy(found), bits),
        hex_to_codes([text.upper() for text in hexes], bits),
        words_to_codes(unsigned, bits),
        words_to_codes(as_int64, bits),
        words_to_codes(as_int64.tolist() if n else as_int64, bits),
    ):
        torch.testing.assert_close(back, codes.float(), rtol=0, atol=0)


def test_words_count_bits_as_a_store_would():
    codes = random_codes(20, 100)
    words = codes_to_words(codes).tolist()
    for i in range(20):
        counted = sum((a ^ b).bit_count() for a, b in zip(words[0], words[i], strict=True))
        assert counted == int((codes[0] != codes[i]).sum())
