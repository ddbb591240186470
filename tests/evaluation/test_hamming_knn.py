import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.utils.inference import InferenceModel

import pml_nmlayer.evaluation.hamming_knn as module
from pml_nmlayer.evaluation import HammingKNN
from tests import naive
from tests.hamming.test_hamming import random_codes


@given(st.integers(1, 20), st.booleans(), st.integers(0, 99))
def test_equals_loop(bits, include_query, seed):
    reference = random_codes(15, bits, seed)
    query = reference[:4] if include_query else random_codes(4, bits, seed + 1)
    distances, indices = HammingKNN()(query, 6, reference, include_query)
    assert indices.dtype == torch.int64
    for i in range(4):
        ranked = sorted(
            (naive.hamming(query[i].tolist(), reference[j].tolist()), j)
            for j in range(15)
            if not (include_query and i == j)
        )
        assert [
            (d, j) for d, j in zip(distances[i].tolist(), indices[i].tolist(), strict=True)
        ] == (ranked[:6])


def test_blocks_and_real_outputs(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_PAIRS", 30)
    u, v = torch.randn(11, 9), torch.randn(14, 9)
    distances, indices = HammingKNN()(u, 14, v)
    for i in range(11):
        expected = [
            naive.hamming((u[i] >= 0).tolist(), (v[j] >= 0).tolist()) for j in indices[i]
        ]
        assert distances[i].tolist() == expected


def test_works_with_pml_inference_model(tmp_path):
    trunk = torch.nn.Linear(5, 13)
    model = InferenceModel(trunk, knn_func=HammingKNN())
    data = [torch.randn(5) for _ in range(20)]
    model.train_knn(data[:12])
    model.add_to_knn(data[12:])
    distances, indices = model.get_nearest_neighbors(torch.stack(data[:3]), k=2)
    assert (distances[:, 0] == 0).all()
    model.save_knn_func(str(tmp_path / "codes.pt"))
    other = InferenceModel(trunk, knn_func=HammingKNN())
    other.load_knn_func(str(tmp_path / "codes.pt"))
    again = other.get_nearest_neighbors(torch.stack(data[:3]), k=2)
    assert torch.equal(again[0], distances)
    assert torch.equal(again[1], indices)


CODES = random_codes(4, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HammingKNN()(CODES, 1), "no reference codes"),
        (lambda: HammingKNN()(CODES, 0, CODES), r"1\.\.4"),
        (lambda: HammingKNN()(CODES, 5, CODES), r"1\.\.4"),
        (lambda: HammingKNN()(CODES, 4, CODES, True), r"1\.\.3"),
        (lambda: HammingKNN()(CODES * torch.nan, 1, CODES), "NaN"),
        (lambda: HammingKNN()(CODES[:, :7], 1, CODES), "7 bits and database codes 8"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
