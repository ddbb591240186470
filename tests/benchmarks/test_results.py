import json

import numpy as np
import pytest

from benchmarks.results import Store, file_name, key_of, write_text

SPEC = {"suite": "s", "dataset": "d", "bits": 12, "settings": {"a": [0.1, 2], "b": None}}


def test_the_key_depends_on_values_and_not_on_their_order():
    assert key_of(SPEC) == key_of(dict(reversed(SPEC.items())))
    assert len(key_of(SPEC)) == 12
    others = [
        {**SPEC, "bits": 24},
        {**SPEC, "settings": {"a": [0, 1.2], "b": None}},
        {**SPEC, "settings": {"a": [0.1, 2], "b": 0}},
    ]
    assert len({key_of(spec) for spec in [SPEC, *others]}) == 4


def test_a_result_comes_back_as_it_was_saved(tmp_path):
    store, codes = Store(tmp_path), np.arange(6, dtype=np.uint8).reshape(3, 2)
    assert store.load(SPEC) is None
    store.save(SPEC, {"train_s": 1.5}, {"codes": codes})
    assert store.load(SPEC) == {"spec": SPEC, "train_s": 1.5}
    np.testing.assert_array_equal(store.load_arrays(SPEC)["codes"], codes)
    assert store.has_result(SPEC)
    names = sorted(path.name for path in (tmp_path / "s" / "d").iterdir())
    assert names == [f"{key_of(SPEC)}.json", f"{key_of(SPEC)}.npz"]


def test_a_record_without_its_arrays_is_no_result(tmp_path):
    store = Store(tmp_path)
    store.save(SPEC, {"train_s": 1.5}, {"codes": np.zeros(1)})
    store.path(SPEC).with_suffix(".npz").unlink()
    assert not store.has_result(SPEC)


def test_an_error_is_no_result(tmp_path):
    store = Store(tmp_path)
    store.save(SPEC, {"error": "boom"}, {})
    assert store.load(SPEC)["error"] == "boom"
    assert not store.has_result(SPEC)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    store = Store(tmp_path)
    store.save(SPEC, {"train_s": 1.0}, {})
    with pytest.raises(TypeError):
        store.save(SPEC, {"train_s": object()}, {})
    assert store.load(SPEC)["train_s"] == 1.0
    path = tmp_path / "text"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no raw result"),
        ("[]", "is no raw result"),
        ('{"a": 1}', "is no raw result"),
        (json.dumps({"spec": {**SPEC, "bits": 13}}), "result of another spec"),
    ],
)
def test_a_file_that_does_not_belong_is_refused(tmp_path, text, message):
    store = Store(tmp_path)
    write_text(store.path(SPEC), text)
    with pytest.raises(ValueError, match=message):
        store.load(SPEC)


def test_names_of_data_sets_make_file_names(tmp_path):
    assert file_name("digits") == "digits"
    assert file_name("features:a/b.npz:C-C'") == "features_a_b.npz_C-C_"
    spec = {**SPEC, "dataset": "features:a/b.npz"}
    store = Store(tmp_path)
    store.save(spec, {"train_s": 1.0}, {})
    assert store.path(spec).parent == tmp_path / "s" / "features_a_b.npz"
    assert store.load(spec)["train_s"] == 1.0


def test_a_refusal_is_no_result_and_no_failure(tmp_path):
    store = Store(tmp_path)
    assert not store.is_refused(SPEC)
    store.save(SPEC, {"refused": "a reason"}, {})
    assert store.is_refused(SPEC)
    assert not store.has_result(SPEC)
