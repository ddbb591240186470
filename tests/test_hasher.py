import copy
import tracemalloc
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

from pml_nmlayer import Hasher, hasher
from pml_nmlayer.adaptation import fit_codes, recipe
from pml_nmlayer.codes import unpack_codes
from pml_nmlayer.ranking import mean_average_precision
from pml_nmlayer.retrieval import HashEncoder, export_onnx


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x[:900].astype(np.float32), y[:900]


@pytest.fixture(scope="module")
def fitted(digits):
    """What is learned from all digits, without labels."""
    return Hasher(bits=12).fit(digits[0])


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(hasher, "fit_codes", partial(fit_codes, steps=3))


@pytest.mark.usefixtures("few_steps")
def test_codes_are_the_signs_of_the_outputs(digits):
    x, y = digits
    fitted = Hasher(bits=12, random_state=0).fit(x, y)
    outputs, codes = fitted.outputs(x), fitted.encode(x)
    assert outputs.dtype == np.float32
    assert outputs.shape == (900, 12)
    assert codes.dtype == np.uint8
    assert (codes == np.packbits(outputs >= 0, axis=1)).all()
    assert (fitted.transform(x) == codes).all()
    assert (fitted.outputs(torch.from_numpy(x)) == outputs).all()


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize(
    "labels",
    [
        lambda y: y.astype(str),
        lambda y: np.array(["a", 7, -1], dtype=object)[y % 3],
        lambda y: np.where(y < 5, y, -1),
        lambda y: np.zeros_like(y),
        lambda y: np.full_like(y, -1),
        lambda y: np.arange(len(y)),
        lambda y: np.eye(10)[y],
        lambda y: np.where((y < 5)[:, None], np.eye(10)[y], -1),
        lambda y: two_labels(y),
        lambda y: np.where((y < 5)[:, None], two_labels(y), -1).astype(np.float32),
        lambda y: y * 1_000_000_007,
    ],
)
def test_any_labels(digits, labels):
    x, y = digits
    assert Hasher(bits=9).fit(x[:99], labels(y[:99])).encode(x).shape == (900, 2)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_any_real_dtype(digits, dtype):
    x, _ = digits
    expected = Hasher(bits=8).fit(x).encode(x)
    assert (Hasher(bits=8).fit(x.astype(dtype)).encode(x.astype(dtype)) == expected).all()


@pytest.mark.usefixtures("few_steps")
def test_it_can_be_cloned_and_refuses_other_widths(digits):
    x, _ = digits
    copy = clone(Hasher(bits=5, random_state=np.random.RandomState(1)))
    copy.fit(x[:3, :4])
    with pytest.raises(ValueError, match="is expecting 4 features"):
        copy.encode(x)
    with pytest.raises(ValueError, match="bits"):
        Hasher(bits=0).fit(x)


def test_unlabelled_digits_are_found_again(digits, fitted):
    import faiss

    x, y = digits
    codes = unpack_codes(torch.from_numpy(fitted.encode(x)), 12)
    itq = faiss.ITQTransform(x.shape[1], 12, True)
    itq.train(x - x.mean(0))
    rival = torch.from_numpy(itq.apply(x - x.mean(0))).sign()
    labels = torch.from_numpy(y)

    def score(c):
        return mean_average_precision(c[:200], labels[:200], c[200:], labels[200:])

    assert score(codes) > score(rival) + 0.1


@pytest.mark.usefixtures("few_steps")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_accepts_it():
    results = check_estimator(Hasher(bits=8), on_fail=None, on_skip=None)
    failed = [each for each in results if each["status"] not in ("passed", "skipped")]
    assert not failed
    assert sum(each["status"] == "passed" for each in results) > 40


@pytest.mark.usefixtures("few_steps")
def test_bits_can_be_searched_for_in_a_pipeline(digits):
    x, y = digits
    pipeline = make_pipeline(
        StandardScaler(), Hasher(random_state=0), FunctionTransformer(bits)
    )
    search = GridSearchCV(
        make_pipeline(pipeline, KNeighborsClassifier(metric="hamming")),
        {"pipeline__hasher__bits": [2, 16]},
        cv=2,
    )
    assert search.fit(x[:200], y[:200]).best_params_ == {"pipeline__hasher__bits": 16}


def two_labels(y):
    """Multi-hot rows: the digit, and the one after it."""
    return np.eye(10, dtype=int)[y] | np.eye(10, dtype=int)[(y + 1) % 10]


def bits(codes):
    return np.unpackbits(codes, axis=1)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("labels", ["none", "one each", "several"])
def test_saved_and_loaded(digits, tmp_path, labels):
    x, y = digits
    y = {"none": None, "one each": y, "several": two_labels(y)}[labels]
    with pytest.raises(NotFittedError):
        Hasher().save(tmp_path)
    fitted = Hasher(bits=12).fit(x, y)
    fitted.save(tmp_path)
    loaded = Hasher.load(tmp_path)
    assert loaded.get_params()["bits"] == 12
    assert (loaded.outputs(x) == fitted.outputs(x)).all()
    assert loaded.n_features_in_ == 64
    fitted.fit(x[:100]).save(tmp_path)  # over the old one
    assert (Hasher.load(tmp_path).encode(x) == fitted.encode(x)).all()
    (weights,) = tmp_path.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(ValueError, match="damaged"):
        Hasher.load(tmp_path)
    with pytest.raises(ValueError, match="has no config"):
        Hasher.load(tmp_path / "none")


@pytest.mark.usefixtures("few_steps")
def test_an_index_and_a_stream(digits):
    x, _ = digits
    fitted = Hasher(bits=16).fit(x)
    names = [f"item {i}" for i in range(len(x))]
    index = fitted.index(x, names)
    _, found = index.search(fitted.encode(x[:5]), k=1)
    codes = fitted.encode(x)
    same = [(codes[i] == codes[names.index(f)]).all() for i, (f,) in enumerate(found)]
    assert all(same)
    _, found = index.search_asymmetric(fitted.outputs(x[:5]), k=3)
    assert np.asarray(found).shape == (5, 3)
    parts = list(fitted.encode_blocks(x[i : i + 300] for i in range(0, 900, 300)))
    assert (np.concatenate(parts) == codes).all()


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("labels", [False, True], ids=["unlabelled", "labelled"])
def test_an_update_keeps_most_bits_where_they_are(digits, labels, tmp_path):
    x, y = digits
    y = y if labels else None
    fitted = Hasher(bits=12).fit(x[:300], y[:300] if labels else None)
    before = fitted.outputs(x) >= 0
    fitted.save(tmp_path)
    anew = np.mean((Hasher(bits=12).fit(x, y).outputs(x) >= 0) == before)
    updated = np.mean((fitted.update(x, y).outputs(x) >= 0) == before)
    assert updated > max(anew + 0.1, 0.7)
    loaded = Hasher.load(tmp_path).update(x, y)  # nothing but the map is remembered
    assert (loaded.encode(x) == fitted.encode(x)).all()


def test_an_update_is_as_good_as_another_fit(digits, fitted):
    x, y = digits
    few, labels = x[y < 2], torch.from_numpy(y)
    old = Hasher(bits=12).fit(few)
    scores = []
    for each in (old, copy.deepcopy(old).update(x), fitted):
        c = unpack_codes(torch.from_numpy(each.encode(x)), 12)
        scores.append(mean_average_precision(c[:200], labels[:200], c[200:], labels[200:]))
    assert scores[1] > scores[0] + 0.1
    assert scores[1] > scores[2] - 0.05


def test_an_update_needs_what_was_fitted(digits):
    x, _ = digits
    with pytest.raises(NotFittedError):
        Hasher().update(x)
    fitted = Hasher(bits=4).fit(x[:3])
    with pytest.raises(ValueError, match="is expecting 64 features"):
        fitted.update(x[:, :5])
    with pytest.raises(ValueError, match="start must have 6 outputs, one a bit, got 4"):
        fitted.set_params(bits=6).update(x)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_memory_maps_are_never_copied_whole(digits, tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(recipe, "SAMPLE", 200)
    x, _ = digits
    np.save(tmp_path / "x.npy", np.tile(x.astype(dtype), (40, 1)))  # 36,000 rows
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    expected = Hasher(bits=8).fit(np.array(mapped)).encode(x)
    tracemalloc.start()
    try:
        fitted = Hasher(bits=8).fit(mapped)
        fitted.encode(mapped)
        peak = tracemalloc.get_traced_memory()[1]  # of numpy alone, whole copies are here
    finally:
        tracemalloc.stop()
    assert (fitted.encode(x) == expected).all()
    assert peak < 36_000 * 64 * 4 / 1.5


def test_tensors_are_taken_as_they_are(digits):
    x = torch.from_numpy(digits[0])
    for each in (x, x.bfloat16(), x.requires_grad_(), x.int()):
        assert hasher._array(each).data_ptr() == each.data_ptr()
    for wrong in (x[:0], x[0], x.to(torch.complex64)):
        with pytest.raises(ValueError, match=r"."):
            Hasher(bits=4).fit(wrong)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_without_a_code_are_refused(digits, value):
    x = digits[0].copy()
    fitted = Hasher(bits=4).fit(x)
    x[7, 3] = value
    for call in (fitted.fit, fitted.update, fitted.encode):
        with pytest.raises(ValueError, match="NaN or inf"):
            call(x)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("labels", [False, True], ids=["unlabelled", "several labels"])
def test_all_that_takes_long_shows_a_bar(digits, capsys, labels):
    x, y = digits
    y = two_labels(y) if labels else None
    for verbose in (False, True):
        Hasher(bits=8, verbose=verbose).fit(x, y).encode(x)
        shown = capsys.readouterr().err
        for what in ("reading", "neighbours", "diffusing", "anchors", "learning", "encod"):
            assert (what in shown) == verbose


@pytest.mark.usefixtures("few_steps")
@pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")
def test_the_module_becomes_an_onnx_file(digits, tmp_path):
    import onnxruntime

    x, y = digits
    fitted = Hasher(bits=12).fit(x, two_labels(y))
    encoder = HashEncoder(nn.Identity(), fitted.module_)
    session = onnxruntime.InferenceSession(export_onnx(encoder, x[:4], tmp_path / "m.onnx"))
    (codes,) = session.run(["codes"], {"x": x})
    sure = np.packbits(np.abs(fitted.outputs(x)) > 1e-3, axis=1)
    assert ((codes ^ fitted.encode(x)) & sure == 0).all()


def test_codes_of_digits_that_share_a_label_are_close(digits):
    x, y = digits
    rows = torch.from_numpy(two_labels(y))
    fitted = Hasher(bits=16).fit(x[300:], rows[300:])
    codes = unpack_codes(torch.from_numpy(fitted.encode(x)), 16)
    found = mean_average_precision(codes[:300], rows[:300], codes[300:], rows[300:])
    sets = Hasher(bits=16).fit(x[300:], y[300:])  # each pair of labels as a class
    codes = unpack_codes(torch.from_numpy(sets.encode(x)), 16)
    apart = mean_average_precision(codes[:300], rows[:300], codes[300:], rows[300:])
    assert found > apart + 0.05


def test_what_was_fitted_stays_when_parameters_change(digits, few_steps, tmp_path):
    x, _ = digits
    hasher = Hasher(bits=np.int64(12)).fit(x)
    codes = hasher.encode(x)
    hasher.set_params(bits=8)
    assert np.array_equal(hasher.encode(x), codes)
    assert hasher.outputs(x).shape == (len(x), 12)
    assert hasher.index(x).bits == 12
    hasher.save(tmp_path)
    assert np.array_equal(Hasher.load(tmp_path).encode(x), codes)


@pytest.mark.parametrize("name", ["bits", "random_state"])
def test_parameters_of_another_kind_are_refused(digits, name):
    with pytest.raises(ValueError, match=name):
        Hasher(**{name: "12"}).fit(digits[0])
    with pytest.raises(ValueError, match=name):
        Hasher(**{name: np.random.default_rng(0)}).fit(digits[0])
