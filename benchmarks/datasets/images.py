"""Sets of image files: lists, key lists, and folders. Only names are read here."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from .features import integer
from .interface import Collection, ImageFiles
from .sources import SOURCES, Source

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp"})
_FOLDERS = {"train": "train", "val": "validation", "test": "test", "database": "database"}


def load_lists(folder: Path) -> Collection:
    """Read train.txt, test.txt and maybe database.txt, one line an image.

    A line is a path and its multi-hot labels, `images/a.jpg 0 1 0`; or a path and a class
    id. One label an image, in all lines, is taken as a class. Leading folders that do not
    exist here (`/home/someone/coco/...`) are left out, the same ones in all lines.
    """
    lines = {
        part: _lines(folder / f"{part}.txt")
        for part in ("train", "test", "database")
        if part != "database" or (folder / "database.txt").exists()
    }
    labels: dict[str, tuple[int, ...]] = {}
    for part, listed in lines.items():
        for number, (name, *words) in enumerate(listed, 1):
            where = f"{folder / f'{part}.txt'}, line {number}"
            row = _numbers(words, where)
            if labels.setdefault(name, row) != row:
                raise ValueError(f"{where}: {name} has other labels than before")
    widths = sorted({len(row) for row in labels.values()})
    if len(widths) != 1:
        raise ValueError(f"{folder}: lines have {widths} labels; all must have as many")
    rows = np.array(list(labels.values()))
    parts = {part: [name for name, *_ in listed] for part, listed in lines.items()}
    return _collection(folder, list(labels), _classes(rows), parts)


def _classes(rows: np.ndarray) -> np.ndarray:
    """Make class ids of rows that have one label each."""
    if rows.shape[1] == 1:
        return rows[:, 0]
    one_hot = rows.max() == 1 and bool((rows.sum(1) == 1).all())
    return rows.argmax(1) if one_hot else rows


def load_key_lists(folder: Path, train: str) -> Collection:
    """Read the key lists of Clothing1M, one path a line, and `path label` files.

    Args:
        folder: with the images; the lists lie there or in its folder `annotations`.
        train: "clean" or "noisy": which images and labels are trained on. Queries and
            database have clean labels.
    """
    lists = folder / "annotations" if (folder / "annotations").is_dir() else folder
    wanted = {
        "train": (f"{train}_train", train),
        "validation": ("clean_val", "clean"),
        "test": ("clean_test", "clean"),
        "database": ("clean_train", "clean"),
    }
    kinds = {kind for _, kind in wanted.values()}
    known = {kind: _labels(lists / f"{kind}_label_kv.txt") for kind in kinds}
    labels: dict[str, int] = {}
    parts: dict[str, list[str]] = {}
    for part, (name, kind) in reversed(wanted.items()):  # clean labels win
        path = lists / f"{name}_key_list.txt"
        parts[part] = [key for key, *_ in _lines(path)]
        for key in parts[part]:
            if key not in known[kind]:
                raise ValueError(f"{lists / f'{kind}_label_kv.txt'} has no label of {key}")
            labels.setdefault(key, known[kind][key])
    return _collection(folder, list(labels), np.array(list(labels.values())), parts)


def load_tree(folder: Path) -> Collection:
    """Read `<part>/<class>/<image>`, with parts train, test and maybe val, database.

    Or `<class>/<image>`: then the set does not say who is what, and a protocol draws.
    """
    if not any((folder / name).is_dir() for name in _FOLDERS):
        return _collection(folder, *_below(folder, folder), {})
    names: list[str] = []
    classes: list[str] = []
    parts: dict[str, list[str]] = {}
    for name, part in _FOLDERS.items():
        found, own = _below(folder / name, folder)
        if found:
            parts[part] = found
        names += found
        classes += own
    if not {"train", "test"} <= set(parts):
        raise ValueError(f"{folder} lacks images train/CLASS/* or test/CLASS/*")
    return _collection(folder, names, classes, parts)


def _below(place: Path, folder: Path) -> tuple[list[str], list[str]]:
    """List the images of folders by class, and their classes."""
    paths = sorted(p for p in place.glob("*/*") if p.suffix.lower() in SUFFIXES)
    names = [path.relative_to(folder).as_posix() for path in paths]
    return names, [path.parent.name for path in paths]


def _collection(
    folder: Path,
    names: list[str],
    labels: np.ndarray | list[str],
    parts: Mapping[str, Iterable[str]],
) -> Collection:
    if not names:
        raise ValueError(f"{folder} has no images CLASS/*, nor train/CLASS/*, test/CLASS/*")
    if isinstance(labels, list):
        _, labels = np.unique(labels, return_inverse=True)
    place = {name: position for position, name in enumerate(names)}
    ids = {part: sorted({place[n] for n in own}) for part, own in parts.items()}
    files = ImageFiles(folder, _existing(folder, names))
    tensors = {part: torch.tensor(values) for part, values in ids.items()}
    return Collection(files, integer(labels), tensors)


def _existing(folder: Path, names: list[str]) -> tuple[str, ...]:
    """Shorten names to what exists below the folder."""
    first = PurePosixPath(names[0]).parts
    cuts = range(len(first))
    cut = next((n for n in cuts if folder.joinpath(*first[n:]).is_file()), 0)
    prefix = first[:cut]
    kept = []
    for name in names:
        words = PurePosixPath(name).parts
        kept.append("/".join(words[cut:] if words[:cut] == prefix else words))
    missing = [name for name in kept if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(names)} images are missing in {folder}; the first is "
            f"{missing[0]}"
        )
    return tuple(kept)


def _lines(path: Path) -> list[list[str]]:
    if not path.exists():
        raise ValueError(f"{path.parent} lacks {path.name}")
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path} is empty")
    return lines


def _labels(path: Path) -> dict[str, int]:
    labels = {}
    for number, words in enumerate(_lines(path), 1):
        where = f"{path}, line {number}"
        if len(words) != 2:
            raise ValueError(f"{where}: expected a path and a label, got {' '.join(words)}")
        labels[words[0]] = _numbers(words[1:], where)[0]
    return labels


def _numbers(words: list[str], where: str) -> tuple[int, ...]:
    if not words or not all(word.isdecimal() for word in words):
        raise ValueError(
            f"{where}: expected a path and labels, such as `a.jpg 0 1 0`, got labels "
            f"{' '.join(words)!r}"
        )
    return tuple(map(int, words))


_LISTS = (
    "It is the folder {place} with train.txt, test.txt and database.txt, one line an "
    "image: a path below that folder and its labels (`images/1.jpg 0 1 0`). "
)
_HASHNET = (
    "The usual lists come with the code of HashNet (github.com/thuml/HashNet) and "
    "DeepHash-pytorch (github.com/swuxyj/DeepHash-pytorch); the images from {0}."
)
_TREE = (
    "It is the folder {place} with images <part>/<class>/*, parts train and test, or with "
    "images <class>/*."
)
for _name, _source in {
    "lists": Source(load_lists, "images named by lists", _LISTS, None),
    "images": Source(load_tree, "images in folders", _TREE, None),
    "nuswide-21": Source(
        load_lists,
        "NUS-WIDE, the 21 most frequent labels",
        _LISTS + _HASHNET.format("lms.comp.nus.edu.sg (NUS-WIDE)"),
        ("nuswide_21",),
        "given",
    ),
    "coco": Source(
        load_lists,
        "MS-COCO 2014, 80 labels",
        _LISTS + _HASHNET.format("cocodataset.org (train2014, val2014)"),
        ("coco",),
        "given",
    ),
    "imagenet-100": Source(
        load_lists,
        "ImageNet, 100 classes",
        _LISTS + _HASHNET.format("image-net.org (ILSVRC 2012)"),
        ("imagenet_100",),
        "given",
    ),
    **{
        f"clothing1m{suffix}": Source(
            partial(load_key_lists, train=train),
            f"Clothing1M, trained on {train} labels",
            "It is the folder {place} with the folder images, the lists "
            "clean_train_key_list.txt, clean_val_key_list.txt, clean_test_key_list.txt and "
            "noisy_train_key_list.txt, and clean_label_kv.txt and noisy_label_kv.txt "
            "(there or in annotations); github.com/Cysu/noisy_label tells whom to ask.",
            ("clothing1m",),
            "given",
        )
        for suffix, train in (("", "clean"), ("-noisy", "noisy"))
    },
}.items():
    SOURCES.add(_name, _source)
