import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pml_nmlayer.codes import binarize, pack_codes, sign_ste, unpack_codes


@st.composite
def codes(draw, max_bits=130):
    rows, bits = draw(st.integers(0, 5)), draw(st.integers(1, max_bits))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.randint(0, 2, (rows, bits), generator=generator).float() * 2 - 1


@given(codes())
def test_unpack_is_the_inverse_of_pack(c):
    packed = pack_codes(c)
    assert packed.dtype == torch.uint8
    assert torch.equal(unpack_codes(packed, c.shape[1]), c)
    assert torch.equal(unpack_codes(packed.numpy(), c.shape[1]), c)


@given(codes())
def test_bit_order_is_that_of_numpy(c):
    expected = np.packbits(c.numpy() > 0, axis=1)
    np.testing.assert_array_equal(pack_codes(c).numpy(), expected)


def test_sign_of_zero_is_plus_one(dtype):
    u = torch.tensor([[0.0, -0.0, -1e-30, torch.inf, -torch.inf]], dtype=dtype)
    expected = torch.tensor([[1.0, 1, -1, 1, -1]], dtype=dtype)
    assert torch.equal(binarize(u), expected)
    assert torch.equal(sign_ste(u), expected)


def test_binarize_integers():
    assert binarize(torch.tensor([-3, 0, 7])).tolist() == [-1, 1, 1]


def test_sign_ste_passes_the_gradient_on(dtype):
    u = torch.randn(4, 5, dtype=dtype, requires_grad=True)
    weight = torch.randn(4, 5, dtype=dtype)
    (sign_ste(u) * weight).sum().backward()
    assert torch.equal(u.grad, weight)


def test_binarize_has_no_gradient():
    assert not binarize(torch.randn(2, 3, requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: binarize(torch.tensor([1.0, torch.nan])), ValueError, "NaN"),
        (lambda: binarize(torch.ones(2, dtype=torch.uint8)), TypeError, "signed dtype"),
        (lambda: pack_codes(torch.ones(8)), ValueError, r"shape \(N, K\)"),
        (lambda: pack_codes(torch.ones(2, 0)), ValueError, "K >= 1"),
        (lambda: pack_codes(torch.zeros(2, 8)), ValueError, r"-1 and \+1 only"),
        (lambda: pack_codes(torch.full((2, 8), torch.nan)), ValueError, "only"),
        (lambda: unpack_codes(torch.zeros(2, 2), 12), ValueError, "uint8"),
        (
            lambda: unpack_codes(torch.zeros(2, 2, dtype=torch.uint8), 8),
            ValueError,
            r"shape \(N, 1\)",
        ),
        (
            lambda: unpack_codes(torch.ones(2, 1, dtype=torch.uint8), 7),
            ValueError,
            "beyond the first 7",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
