import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pml_nmlayer.merging.bit_statistics as module
from pml_nmlayer.codes import pack_codes
from pml_nmlayer.merging.bit_statistics import (
    bit_statistics,
    drop_one_likelihood,
    drop_one_map,
)
from pml_nmlayer.merging.gini import gini
from pml_nmlayer.ranking import mean_average_precision
from tests import naive
from tests.hamming.test_hamming import random_codes, random_labels


@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 999))
def test_equals_loop(count, bits, seed):
    codes = random_codes(count, bits, seed)
    found = bit_statistics(codes)
    rows = codes.tolist()
    for k in range(bits):
        mean = sum(row[k] for row in rows) / count
        assert found.balance[k].item() == pytest.approx(mean, abs=1e-12)
        entropy = naive.bit_statistics_entropy(rows, k)
        assert found.entropy[k].item() == pytest.approx(entropy, abs=1e-12)
        for other in range(bits):
            rho = naive.correlation(rows, k, other) if other != k else 0
            assert found.correlation[k, other].item() == pytest.approx(rho, abs=1e-12)
    assert found.importance is None


def test_packed_codes_and_blocks_change_nothing(monkeypatch):
    codes, labels = random_codes(20_000, 13), random_labels(20_000, "class ids")
    found = bit_statistics(codes, labels)
    packed = bit_statistics(pack_codes(codes), labels, bits=13)
    for name in ("balance", "entropy", "correlation", "importance"):
        assert torch.equal(getattr(found, name), getattr(packed, name))
    assert torch.equal(found.balance, codes.double().mean(0))


@pytest.mark.parametrize("kind", ["class ids", "multi-hot"])
@pytest.mark.parametrize("block", [1024, 9])
def test_likelihood_equals_loop_over_blocks(kind, block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    codes, labels = random_codes(31, 5), random_labels(31, kind)
    found = drop_one_likelihood(codes, labels)
    order = torch.randperm(31, generator=torch.Generator().manual_seed(0)).tolist()
    count = 1 if block > 31 else 3
    expected = naive.bit_statistics_likelihood(
        codes.tolist(), labels.tolist(), order, count
    )
    assert found.tolist() == pytest.approx(expected, abs=1e-6)  # float32 within a block
    assert bit_statistics(codes, labels).importance.tolist() == found.tolist()


def test_sorting_and_cycling_hardly_matter(monkeypatch):
    codes, labels = random_codes(2000, 6), torch.arange(2000) % 4
    codes[:, 2] = (labels % 2) * 2.0 - 1
    whole = drop_one_likelihood(codes, labels)
    monkeypatch.setattr(module, "_BLOCK", 100)
    for order in (torch.arange(2000), labels.argsort(stable=True)):
        found = drop_one_likelihood(codes[order], labels[order])
        assert found.tolist() == pytest.approx(whole.tolist(), abs=0.01)
        assert found.argmax() == 2
    assert not drop_one_likelihood(codes, labels * 0).any()


def test_drop_one_map():
    labels = torch.arange(40) % 2
    codes = random_codes(40, 4)
    codes[:, 2] = labels.float() * 2 - 1  # one bit knows the class
    found = drop_one_map(codes, labels, codes, labels, ref_includes_query=True)
    for k in range(4):
        kept = [j for j in range(4) if j != k]
        options = {"ref_includes_query": True}
        whole = mean_average_precision(codes, labels, codes, labels, **options)
        part = codes[:, kept]
        without = mean_average_precision(part, labels, part, labels, **options)
        assert found[k].item() == pytest.approx(whole - without, abs=1e-12)
    assert found.argmax() == 2
    packed = pack_codes(codes)
    again = drop_one_map(packed, labels, packed, labels, bits=4, ref_includes_query=True)
    assert torch.equal(again, found)


def test_summary():
    codes, labels = random_codes(64, 8), torch.arange(64) % 4
    found = bit_statistics(codes, labels)
    numbers = found.summary()
    assert numbers["bit_imbalance"] == pytest.approx(found.balance.abs().mean().item())
    off = ~torch.eye(8, dtype=torch.bool)
    expected = found.correlation.abs()[off].mean().item()
    assert numbers["bit_correlation"] == pytest.approx(expected)
    assert numbers["bit_importance_gini"] == gini(found.importance)
    assert set(bit_statistics(codes).summary()) == set(numbers) - {"bit_importance_gini"}
    assert bit_statistics(codes[:, :1]).summary()["bit_correlation"] == 0


CODES, LABELS = random_codes(4, 8), torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bit_statistics(CODES[:0]), "no codes"),
        (lambda: bit_statistics(CODES * 2), "codes must hold -1"),
        (lambda: bit_statistics(pack_codes(CODES)), "pass bits="),
        (lambda: bit_statistics(CODES, LABELS[:2]), "4 items but 2 labels"),
        (lambda: drop_one_map(CODES[:, :1], LABELS, CODES[:, :1], LABELS), "single bit"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
