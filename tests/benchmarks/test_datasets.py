import gzip
import struct

import numpy as np
import pytest
import torch

from benchmarks.datasets import (
    DATA_ROOT,
    SOURCES,
    Collection,
    ImageFiles,
    data_root,
    features,
    load_collection,
    load_split,
    parse,
)
from benchmarks.datasets.pixels import read_idx
from benchmarks.running.quality import stored_arrays


def digits(seed, purpose="report"):
    return load_split("digits", seed, purpose)


def test_sizes_class_by_class():
    split = digits(3)
    sizes = {name: len(ids) for name, ids in split.parts().items()}
    assert sizes == {"train": 700, "validation": 100, "test": 200, "database": 1497}
    for part, count in (("train", 70), ("validation", 10), ("test", 20)):
        labels = split.labels[split.parts()[part]]
        assert torch.bincount(labels).tolist() == [count] * 10
    assert 0 <= split.features.min()
    assert split.features.max() == 1


def test_the_database_is_everything_that_is_no_query():
    split = digits(0)
    parts = {name: set(ids.tolist()) for name, ids in split.parts().items()}
    assert not parts["test"] & parts["validation"]
    assert parts["database"] == set(range(1797)) - parts["test"] - parts["validation"]
    assert parts["train"] < parts["database"]
    assert torch.equal(split.queries, split.test)


def test_tuning_never_sees_a_test_query_of_any_seed():
    tuning = digits(0, "tune")
    seen = {int(i) for ids in tuning.parts().values() for i in ids}
    tested = {int(i) for seed in range(30) for i in digits(seed).test}
    assert len(tested) > 400  # the seeds do draw different queries
    assert not seen & tested
    assert len(tuning.test) == 0
    assert torch.equal(tuning.queries, tuning.validation)
    assert not set(tuning.queries.tolist()) & set(tuning.database.tolist())
    assert set(tuning.train.tolist()) < set(tuning.database.tolist())


def test_the_checksum_follows_seed_purpose_and_data(tmp_path):
    sums = {digits(0).checksum(), digits(1).checksum(), digits(0, "tune").checksum()}
    assert len(sums) == 3
    assert digits(0).checksum() in sums
    assert all(len(text) == 64 for text in sums)

    features, labels = np.random.default_rng(0).random((20, 3)), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", features=features, labels=labels)
    np.savez(tmp_path / "b.npz", features=features + 1, labels=labels)
    split, other = (load_split(f"features:{x}.npz", 0, "report", tmp_path) for x in "ab")
    assert torch.equal(split.test, other.test)
    assert split.checksum() != other.checksum()


def test_the_split_is_the_same_on_every_machine():
    # Written down once: published numbers rest on these queries.
    assert digits(0).test[:8].tolist() == [1, 7, 9, 12, 15, 34, 51, 53]
    sums = (digits(5).checksum(), digits(5, "tune").checksum())
    assert [text[:8] for text in sums] == ["c0b19b1b", "c43432a6"]


def test_ids_ascend():
    for ids in digits(5).parts().values():
        assert np.all(np.diff(ids.numpy()) > 0)


def test_features_come_as_they_lie_in_the_file(tmp_path):
    features = np.array([[0.5, 1], [2, 3], [4, 5]], np.float16)
    split = np.array(["train", "test", "train+database"])
    np.savez(tmp_path / "f.npz", features=features, labels=[2, 0, 1], split=split)
    found = load_collection("features:f.npz", tmp_path)
    assert found.items.dtype == torch.float32
    assert found.items.tolist() == features.tolist()
    assert found.labels.tolist() == [2, 0, 1]
    parts = {name: ids.tolist() for name, ids in found.parts.items()}
    assert parts == {"train": [0, 2], "test": [1], "database": [2]}
    assert found.coarse_labels is None


def test_coarse_labels_go_to_who_judges(tmp_path):
    fine, coarse = np.arange(40) % 4, np.arange(40) % 4 // 2
    file = tmp_path / "f.npz"
    np.savez(file, features=np.ones((40, 2)), labels=fine, coarse_labels=coarse)
    split = load_split("features:f.npz", 0, "report", tmp_path)
    assert split.num_classes == 4
    arrays = stored_arrays(split, {}, 8, {})
    for part, ids in (("query", split.queries), ("database", split.database)):
        assert arrays[f"{part}_coarse_labels"].tolist() == coarse[ids].tolist()
        assert arrays[f"{part}_labels"].tolist() == fine[ids].tolist()


def test_multi_hot_rows_stay_rows(tmp_path):
    rows = np.random.default_rng(0).integers(0, 2, (40, 5))
    np.savez(tmp_path / "m.npz", features=np.ones((40, 2)), labels=rows)
    split = load_split("features:m.npz", 0, "report", tmp_path)
    assert split.multi_label
    assert split.num_classes == 5
    assert split.protocol == "random"
    assert split.labels.tolist() == rows.tolist()
    assert {n: len(i) for n, i in split.parts().items()} == {
        "train": 28,
        "validation": 4,
        "test": 4,
        "database": 36,
    }


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, features=np.zeros((4, 1)), labels=[0, 1, 0, 1])
    assert load_collection("features:f.npz", tmp_path).items.max() == 0
    np.savez(path, features=np.ones((4, 1)), labels=[0, 1, 0, 1])
    assert load_collection("features:f.npz", tmp_path).items.max() == 1


GOOD = {"features": np.ones((3, 2)), "labels": np.arange(3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": None}, "f.npz lacks features. It is a .npz file with"),
        ({"labels": np.arange(4)}, r"got \(4,\) for 3"),
        ({"labels": np.ones(3)}, "labels must be integers, got float64"),
        ({"labels": np.array([0, -1, 1])}, "labels must be integers from 0 on"),
        ({"labels": np.full((3, 2), 2)}, "must hold 0 and 1 only"),
        ({"features": np.full((3, 2), np.nan)}, "must be finite numbers"),
        ({"features": np.ones(3)}, r"finite numbers of shape \(N, D\)"),
        ({"coarse_labels": np.zeros(2, int)}, r"superclass ids \(3,\), got shape \(2,\)"),
        ({"coarse_labels": np.ones((3, 2), int)}, r"superclass ids \(3,\), got shape"),
        ({"split": np.array(["train", "test", "val"])}, "database.*, got 'val'"),
    ],
)
def test_a_file_that_is_no_feature_set_is_refused(tmp_path, change, message):
    arrays = {name: v for name, v in {**GOOD, **change}.items() if v is not None}
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_split("features:f.npz", 0, "report", tmp_path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut short"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "f.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"f\.npz cannot be read as a feature set"):
        load_collection("features:f.npz", tmp_path)


@pytest.mark.parametrize("name", [n for n in SOURCES if SOURCES[n].places != ()])
def test_a_missing_set_says_where_to_get_it(name, tmp_path, monkeypatch):
    if name == "fashion-mnist":  # the machine may have Debian's package
        lacking = SOURCES[name].places[:1]
        source = SOURCES[name].__class__(**{**vars(SOURCES[name]), "places": lacking})
        monkeypatch.setitem(SOURCES._items, name, source)
    monkeypatch.delenv(DATA_ROOT, raising=False)
    full = name if SOURCES[name].places is not None else f"{name}:here"
    place = (SOURCES[name].places or ["here"])[0]
    with pytest.raises(ValueError, match=f"there is no {name} data set") as caught:
        load_collection(full, tmp_path)
    text = str(caught.value)
    assert str(tmp_path / place) in text
    assert "--data-root" in text
    assert "{place}" not in text
    assert any(word in text for word in ("folder", "file"))
    with pytest.raises(ValueError, match=r"looked at: nowhere.*PML_NMLAYER_DATA\."):
        load_collection(full)


def test_the_data_root_is_the_option_or_else_the_environment(tmp_path, monkeypatch):
    np.savez(tmp_path / "f.npz", **GOOD)
    monkeypatch.setenv(DATA_ROOT, str(tmp_path))
    assert len(load_collection("features:f.npz").items) == 3
    assert data_root(tmp_path / "other") == tmp_path / "other"
    monkeypatch.setenv(DATA_ROOT, "")
    assert data_root(None) is None
    assert len(load_collection(f"features:{tmp_path / 'f.npz'}").items) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "unknown dataset 'digit'; known: "),
        ("digits:C-E", "unknown protocol of dataset 'digits:C-E' 'C-E'; known: digits, "),
        ("digits:C-A:unseen", "names more than one protocol"),
        ("features", "must say which: features:PATH"),
        ("features::unseen", "must say which: features:PATH"),
    ],
)
def test_a_name_that_is_not_understood_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        parse(name)


def write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as file:
        file.write(header + array.astype(np.uint8).tobytes())


def test_idx_files_gzipped_or_not(tmp_path):
    folder, rng = tmp_path / "fashion-mnist", np.random.default_rng(0)
    folder.mkdir()
    images = {"train": rng.integers(0, 256, (30, 4, 5)), "t10k": np.full((6, 4, 5), 255)}
    for part, end in (("train", ".gz"), ("t10k", "")):
        count = len(images[part])
        write_idx(folder / f"{part}-images-idx3-ubyte{end}", images[part])
        write_idx(folder / f"{part}-labels-idx1-ubyte{end}", np.arange(count) % 3)
    found = load_collection("fashion-mnist", tmp_path)
    assert found.items.shape == (36, 20)
    assert found.items[30:].unique().tolist() == [1]
    np.testing.assert_allclose(found.items[:30] * 255, images["train"].reshape(30, 20))
    assert found.labels.tolist() == [i % 3 for i in range(30)] + [0, 1, 2] * 2
    split = load_split("fashion-mnist", 0, "report", tmp_path)
    assert split.test.tolist() == [30, 31, 32, 33, 34, 35]
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match="lacks t10k-labels-idx1-ubyte"):
        load_split("fashion-mnist:given", 0, "report", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG", "is no IDX file of bytes"),
        (b"\0\0\x0d\1\0\0\0\1\0\0\0\0", "is no IDX file of bytes"),  # of floats
        (b"\0\0\x08\1\0\0\0\3ab", r"should hold \[3\] values, but has 2"),
        (b"\0\0\x08\2\0\0\0\3", r"should hold \[3\] values, but has 0"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\1a", mtime=0)[:-9], "damaged gzip"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, content, message):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(path)


def test_image_files_count_as_items(tmp_path):
    files = ImageFiles(tmp_path, ("a.jpg", "b.jpg"))
    assert len(Collection(files, torch.tensor([0, 1])).items) == 2
    with pytest.raises(ValueError, match="at least one"):
        Collection(ImageFiles(tmp_path, ()), torch.tensor([], dtype=torch.long))


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["owl", "cat", "owl", "ant"]),
        np.array([9, 5, 9, 1]),
        np.array([2**62, 2**40, 2**62, 7]),
    ],
    ids=["names", "gaps", "64-bit hashes"],
)
def test_ids_of_any_kind_are_numbered(tmp_path, labels):
    path = tmp_path / "mine.npz"
    np.savez(path, features=np.ones((4, 2), np.float32), labels=labels)
    assert features.load_npz(path).labels.tolist() == [2, 1, 2, 0]
