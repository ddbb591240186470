import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pml_nmlayer.classes import codebooks
from pml_nmlayer.classes.codebooks import hadamard_codebook, make_codebook, maximin_codebook
from tests import naive


def closest_pair_bits(centres):
    products = centres @ centres.T
    products.fill_diagonal_(-torch.inf)
    return int((centres.shape[1] - products.max()) / 2)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 64])
def test_hadamard_centres_are_half_of_the_bits_apart(bits):
    centres = hadamard_codebook(2 * bits, bits)
    expected = bits * torch.eye(bits)
    products = centres @ centres.T
    assert torch.equal(products[:bits, :bits], expected)
    assert torch.equal(products[:bits, bits:], -expected)


def test_hadamard_centres_are_rows_of_sylvester_or_their_negatives():
    rows = naive.codebook_sylvester(16)
    allowed = {tuple(r) for r in rows} | {tuple(-x for x in r) for r in rows}
    centres = [tuple(c) for c in hadamard_codebook(32, 16, seed=3).tolist()]
    assert set(centres) == allowed


def test_hadamard_bits_tell_classes_apart_and_are_no_copies():
    # the first ten rows in Sylvester's order have one constant and 16 different columns
    centres = hadamard_codebook(10, 64)
    assert len(centres.T.unique(dim=0)) == 64
    assert not (centres.sum(0).abs() == 10).any()


@given(st.integers(1, 12), st.data())
def test_maximin_centres_all_differ(bits, data):
    count = data.draw(st.integers(1, min(2**bits, 200)))
    centres = maximin_codebook(count, bits, seed=data.draw(st.integers(0, 99)))
    assert centres.shape == (count, bits)
    assert centres.dtype == torch.float32
    assert torch.equal(centres.abs(), torch.ones(count, bits))
    assert len(centres.unique(dim=0)) == count


def test_maximin_uses_every_code_when_there_is_no_other_way():
    assert len(maximin_codebook(2**13, 13).unique(dim=0)) == 2**13


@pytest.mark.parametrize("seed", range(3))
def test_maximin_takes_the_farthest_of_all_codes(seed):
    centres = maximin_codebook(12, 6, seed=seed).tolist()
    for n in range(1, 12):
        nearest = min(
            sum(a != b for a, b in zip(centres[n], c, strict=True)) for c in centres[:n]
        )
        assert nearest == naive.codebook_best_distance(centres[:n], 6)


@pytest.mark.parametrize(
    ("count", "bits"), [(10, 24), (100, 48), (100, 64), (1000, 32), (300, 16)]
)
def test_maximin_is_farther_apart_than_the_best_of_many_random_codebooks(count, bits):
    random = [torch.randint(2, (count, bits)).float() * 2 - 1 for _ in range(20)]
    best_random = max(closest_pair_bits(c) for c in random)
    assert closest_pair_bits(maximin_codebook(count, bits)) > best_random


def test_maximin_reaches_the_known_optimum_of_few_centres():
    # Plotkin's bound: ten codes cannot be 7 of 12, or 13 of 24 bits apart
    assert closest_pair_bits(maximin_codebook(10, 12)) == 6
    assert closest_pair_bits(maximin_codebook(10, 24)) == 12


def test_maximin_serves_ten_thousand_classes():
    centres = maximin_codebook(10_000, 64)
    assert len(centres.unique(dim=0)) == 10_000
    assert closest_pair_bits(centres) >= 15


def test_maximin_does_not_depend_on_the_size_of_its_blocks(monkeypatch):
    whole = maximin_codebook(300, 20)
    monkeypatch.setattr(codebooks, "_PRODUCTS_AT_ONCE", 1)
    assert torch.equal(maximin_codebook(300, 20), whole)


def test_maximin_draws_again_when_a_pool_holds_nothing_new(monkeypatch):
    real, calls = codebooks._random_codes, []

    def stale_at_first(count, bits, generator):
        calls.append(count)
        drawn = real(count, bits, generator)
        return torch.ones_like(drawn) if len(calls) <= 3 else drawn

    monkeypatch.setattr(codebooks, "_random_codes", stale_at_first)
    assert len(maximin_codebook(5, 20).unique(dim=0)) == 5
    assert len(calls) == 5 + 2  # one centre from the three stale pools, one each later


@pytest.mark.parametrize("make", [hadamard_codebook, maximin_codebook, make_codebook])
def test_seed_decides_and_the_global_generator_is_left_alone(make):
    before = torch.get_rng_state()
    assert torch.equal(make(9, 16, seed=5), make(9, 16, seed=5))
    assert not torch.equal(make(9, 16, seed=5), make(9, 16, seed=6))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("count", "bits", "make"),
    [
        (128, 64, hadamard_codebook),
        (129, 64, maximin_codebook),
        (10, 48, maximin_codebook),
        (3, 2, hadamard_codebook),
    ],
)
def test_auto_takes_hadamard_where_it_fits(count, bits, make):
    assert torch.equal(make_codebook(count, bits), make(count, bits))


def test_own_centres_are_copied():
    own = torch.tensor([[1, -1, 1], [-1, -1, 1]])
    made = make_codebook(2, 3, kind=own)
    assert made.dtype == torch.float32
    assert torch.equal(made, own.float())
    made[0, 0] = 5
    assert own[0, 0] == 1
    own = own.float()
    make_codebook(2, 3, kind=own)[0, 0] = 5
    assert own[0, 0] == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_codebook(5, 2), r"2 bits have 4 codes.*use 3 bits or more"),
        (lambda: maximin_codebook(2**13 + 1, 13), "too few for num_classes=8193"),
        (lambda: make_codebook(0, 8), "num_classes >= 1"),
        (lambda: make_codebook(2, 0), "bits >= 1"),
        (lambda: hadamard_codebook(4, 12), "K a power of two; got num_classes=4, bits=12"),
        (lambda: hadamard_codebook(17, 8), "num_classes=17, bits=8"),
        (lambda: make_codebook(17, 8, kind="hadamard"), "Use 'maximin' or 'auto'"),
        (lambda: make_codebook(4, 8, kind="random"), "got 'random'"),
        (lambda: make_codebook(4, 8, kind=torch.ones(8, 4)), r"\(4, 8\), got \(8, 4\)"),
        (
            lambda: make_codebook(1, 2, kind=torch.tensor([[0, 1]])),
            "codebook must hold -1 and",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
