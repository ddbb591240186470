"""Sets of image files by their names; tests/benchmarks/test_trunks.py looks inside."""

import pytest

from benchmarks.datasets import load_collection, load_split


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"an image, as far as names go")


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def named(collection, part):
    return [collection.items.names[i] for i in collection.parts[part]]


def test_lists_of_several_labels(tmp_path):
    folder = tmp_path / "coco"
    write(
        folder,
        train=["images/a.jpg 1 1 0", "images/b.jpg 0 1 0"],
        test=["images/c.jpg 0 0 1", ""],
        database=["images/b.jpg 0 1 0", "images/d.jpg 1 0 0"],
    )
    touch(folder, *(f"images/{x}.jpg" for x in "abcd"))
    found = load_collection("coco", tmp_path)
    assert found.items.names == tuple(f"images/{x}.jpg" for x in "abcd")
    assert found.labels.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert named(found, "train") == ["images/a.jpg", "images/b.jpg"]
    assert named(found, "test") == ["images/c.jpg"]
    assert named(found, "database") == ["images/b.jpg", "images/d.jpg"]


def test_lists_of_one_label_are_of_classes(tmp_path):
    for name, labels in (("one_hot", ["0 1", "1 0"]), ("ids", ["1", "0"])):
        folder = tmp_path / name
        write(folder, train=[f"a.jpg {labels[0]}"], test=[f"b.jpg {labels[1]}"])
        touch(folder, "a.jpg", "b.jpg")
        found = load_collection(f"lists:{name}", tmp_path)
        assert found.labels.tolist() == [1, 0]
        assert sorted(found.parts) == ["test", "train"]


def test_folders_of_another_machine_are_left_out(tmp_path):
    folder = tmp_path / "nuswide_21"
    write(
        folder,
        train=["/home/me/nus/images/a.jpg 1 1"],
        test=["/home/me/nus/images/b.jpg 0 1"],
        database=["/home/me/nus/images/a.jpg 1 1"],
    )
    touch(folder, "images/a.jpg", "images/b.jpg")
    found = load_collection("nuswide-21", tmp_path)
    assert found.items.names == ("images/a.jpg", "images/b.jpg")
    (folder / "images/b.jpg").unlink()
    (folder / "train.txt").write_text("/home/me/nus/images/a.jpg 1 1\n")  # a new stamp
    with pytest.raises(ValueError, match=r"1 of 2 images are missing .* images/b\.jpg"):
        load_split("lists:nuswide_21", 0, "report", tmp_path)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (["a.jpg"], ["b.jpg 0"], r"train\.txt, line 1: expected a path and labels"),
        (["a.jpg 0.5 1"], ["b.jpg 0 1"], r"got labels '0\.5 1'"),
        (["a.jpg 0 1"], ["b.jpg 0 1 1"], r"lines have \[2, 3\] labels"),
        (["a.jpg 0 1", "a.jpg 1 1"], ["b.jpg 0 1"], "line 2: a.jpg has other labels"),
        ([], ["b.jpg 0 1"], r"train\.txt is empty"),
    ],
)
def test_lists_that_are_not_understood_are_refused(tmp_path, train, test, message):
    write(tmp_path / "l", train=train, test=test)
    touch(tmp_path / "l", "a.jpg", "b.jpg")
    with pytest.raises(ValueError, match=message):
        load_collection("lists:l", tmp_path)


def test_a_missing_list_is_named(tmp_path):
    write(tmp_path / "l", train=["a.jpg 0"])
    with pytest.raises(ValueError, match=r"l lacks test\.txt"):
        load_collection("lists:l", tmp_path)


def clothing(folder, lists):
    names = {x: f"images/0/{x}.jpg" for x in "abcdef"}
    touch(folder, *names.values())
    clean = {"a": 3, "b": 1, "c": 2, "d": 0}
    noisy = {"e": 1, "f": 0, "a": 2}
    write(
        lists,
        clean_train_key_list=[names["a"], names["b"]],
        clean_val_key_list=[names["c"]],
        clean_test_key_list=[names["d"]],
        noisy_train_key_list=[names["e"], names["f"]],
        clean_label_kv=[f"{names[x]} {label}" for x, label in clean.items()],
        noisy_label_kv=[f"{names[x]} {label}" for x, label in noisy.items()],
    )


@pytest.mark.parametrize("inside", ["", "annotations"])
def test_clothing1m_from_key_lists(tmp_path, inside):
    clothing(tmp_path / "clothing1m", tmp_path / "clothing1m" / inside)
    found = load_collection("clothing1m", tmp_path)
    labels = dict(zip(found.items.names, found.labels.tolist(), strict=True))
    assert labels == {
        f"images/0/{x}.jpg": y for x, y in zip("abcd", (3, 1, 2, 0), strict=True)
    }
    assert named(found, "train") == named(found, "database")
    assert named(found, "validation") == ["images/0/c.jpg"]
    assert named(found, "test") == ["images/0/d.jpg"]

    noisy = load_collection("clothing1m-noisy", tmp_path)
    assert sorted(named(noisy, "train")) == ["images/0/e.jpg", "images/0/f.jpg"]
    assert sorted(named(noisy, "database")) == ["images/0/a.jpg", "images/0/b.jpg"]
    labels = dict(zip(noisy.items.names, noisy.labels.tolist(), strict=True))
    assert labels["images/0/e.jpg"] == 1
    assert labels["images/0/a.jpg"] == 3  # clean where there is a clean one
    split = load_split("clothing1m-noisy", 0, "report", tmp_path)
    assert not set(split.train.tolist()) & set(split.database.tolist())


def test_an_image_without_a_label_is_refused(tmp_path):
    folder = tmp_path / "clothing1m"
    clothing(folder, folder)
    (folder / "clean_label_kv.txt").write_text("images/0/a.jpg 3\n")
    with pytest.raises(
        ValueError, match=r"clean_label_kv\.txt has no label of images/0/[bcd]"
    ):
        load_collection("clothing1m", tmp_path)
    (folder / "clean_label_kv.txt").write_text("images/0/a.jpg\n")
    with pytest.raises(ValueError, match=r"line 1: expected a path and a label"):
        load_collection("clothing1m-noisy", tmp_path)


def test_folders_of_classes(tmp_path):
    names = [
        f"{p}/{c}/{i}.jpg" for p in ("train", "test") for c in ("cat", "ant") for i in "01"
    ]
    touch(tmp_path / "pets", *names, "train/cat/notes.txt")
    found = load_collection("images:pets", tmp_path)
    assert len(found.items) == 8
    labels = dict(zip(found.items.names, found.labels.tolist(), strict=True))
    assert labels["train/ant/0.jpg"] == 0
    assert labels["test/cat/1.jpg"] == 1
    assert len(found.parts["test"]) == 4
    touch(tmp_path / "half", "train/ant/0.jpg")
    with pytest.raises(ValueError, match="lacks images train/CLASS/"):
        load_collection("images:half", tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"none has no images CLASS/\*, nor train"):
        load_collection("images:none", tmp_path)
