import math

import pytest
import torch

from pml_nmlayer.losses.soft_histograms import (
    relaxed_codes,
    relaxed_hamming,
    soft_histogram,
)


@pytest.mark.parametrize("sharpness", [0.5, 2.0, 3.0, 10.0])
def test_codes_stay_codes_exactly(sharpness, dtype):
    u = torch.tensor([-7.0, -1.0, 1.0, 7.0], dtype=dtype)
    assert relaxed_codes(u, sharpness).tolist() == [-1, -1, 1, 1]


def test_inside_it_is_a_scaled_tanh_and_nan_stays_nan():
    u = torch.tensor([-0.4, 0.0, 0.9, math.nan], dtype=torch.float64)
    codes = relaxed_codes(u, 2.0).tolist()
    expected = [math.tanh(2 * x) / math.tanh(2) for x in (-0.4, 0.0, 0.9)]
    torch.testing.assert_close(codes[:3], expected, rtol=1e-12, atol=0)
    assert math.isnan(codes[3])
    plain = relaxed_codes(u, 2.0, keep_codes=False)[:3]
    torch.testing.assert_close(plain, torch.tanh(2 * u[:3]), rtol=0, atol=0)


def test_gradient_is_that_of_the_tanh_also_where_the_value_is_cut():
    u = torch.tensor([-1.7, -0.3, 0.0, 1.0, 1.3], dtype=torch.float64, requires_grad=True)
    relaxed_codes(u, 2.0).sum().backward()
    expected = [2 * (1 - math.tanh(2 * x) ** 2) / math.tanh(2) for x in u.tolist()]
    torch.testing.assert_close(u.grad.tolist(), expected, rtol=1e-10, atol=0)


def test_relaxed_hamming_counts_bits_of_codes():
    codes = torch.where(torch.randn(5, 67) > 0, 1.0, -1.0)
    expected = (codes[:, None] != codes).sum(2)
    assert relaxed_hamming(codes, codes).tolist() == expected.tolist()


@pytest.mark.parametrize(("bits", "bins"), [(1, 1), (12, 5), (13, 13), (24, 12)])
def test_histogram_equals_triangles_and_loses_no_pair(bits, bins):
    distance = bits * torch.rand(4, 9, dtype=torch.float64)
    distance[0, 0], distance[0, 1] = 0, bits
    masks = (torch.rand(2, 4, 9) < 0.6).double()
    counts = soft_histogram(distance, masks, bits, bins)
    width = bits / bins
    for s in range(2):
        for i in range(4):
            for c in range(bins + 1):
                terms = [
                    m * max(0.0, 1 - abs(d - c * width) / width)
                    for m, d in zip(masks[s, i].tolist(), distance[i].tolist(), strict=True)
                ]
                torch.testing.assert_close(
                    counts[s, i, c].item(), sum(terms), rtol=1e-10, atol=1e-12
                )
    torch.testing.assert_close(counts.sum(2), masks.sum(2))
