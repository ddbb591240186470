import numpy as np
import pytest
import torch

from benchmarks.datasets import PROTOCOLS, Collection
from benchmarks.datasets.protocols import default_protocol, split_by

# As many images a class as CIFAR-10 has, its test set at the end.
LABELS = torch.arange(60_000) % 10
CIFAR = Collection(
    torch.zeros(60_000, 1),
    LABELS,
    {"train": torch.arange(50_000), "test": torch.arange(50_000, 60_000)},
)
ROWS = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (400, 12)) == 0).byte()
SEVERAL = Collection(torch.zeros(400, 1), ROWS)
FEW = Collection(torch.zeros(400, 1), torch.arange(400) % 10)
SIZES = {  # train, validation, test, database
    "C-A": (5_000, 1_000, 1_000, 54_000),
    "C-B": (5_000, 1_000, 1_000, 59_000),
    "C-C": (49_000, 1_000, 10_000, 50_000),
    "C-C'": (49_000, 1_000, 10_000, 50_000),
    "C-D": (5_000, 1_000, 10_000, 50_000),
}


def parts(name, collection, seed=0, purpose="report"):
    split = split_by(name, collection, seed, purpose)
    return {part: set(ids.tolist()) for part, ids in split.parts().items()}


@pytest.mark.parametrize("name", SIZES)
def test_cifar_protocols_have_the_sizes_of_papers(name):
    split = split_by(name, CIFAR, 0, "report")
    assert tuple(len(ids) for ids in split.parts().values()) == SIZES[name]
    for ids in (split.train, split.validation, split.test):
        counts = torch.bincount(LABELS[ids])
        assert counts.min() == counts.max()
    found = parts(name, CIFAR)
    assert not found["test"] & found["database"]
    assert not found["validation"] & found["train"]
    assert found["validation"] < found["database"]
    inside = found["train"] & found["database"]
    assert inside == (set() if name == "C-A" else found["train"])
    if name != "C-C":
        assert min(found["test"]) >= 50_000


def test_a_paper_re_split_is_drawn_once():
    first, second = parts("C-C", CIFAR, 0), parts("C-C", CIFAR, 1)
    assert first["test"] == second["test"]
    assert first["validation"] != second["validation"]
    assert 1_500 < len([i for i in first["test"] if i >= 50_000]) < 1_850  # about 1 in 6


CASES = [(name, CIFAR) for name in SIZES] + [
    ("given", CIFAR),
    ("random", FEW),
    ("random", SEVERAL),
    ("unseen", FEW),
    ("unseen", SEVERAL),
]


@pytest.mark.parametrize(("name", "collection"), CASES)
def test_no_protocol_lets_tuning_see_a_test_query(name, collection):
    tested = set().union(*(parts(name, collection, seed)["test"] for seed in range(4)))
    for seed in range(2):
        tuning = parts(name, collection, seed, "tune")
        assert not tuning.pop("test")
        assert not tested & set().union(*tuning.values())
        assert not tuning["validation"] & (tuning["database"] | tuning["train"])
        assert len(tuning["validation"]) > 0
        assert len(tuning["train"]) > 0


@pytest.mark.parametrize(("name", "collection"), CASES)
def test_a_seed_is_a_split(name, collection):
    sums = [split_by(name, collection, seed, "report").checksum() for seed in (0, 0, 1)]
    assert sums[0] == sums[1]
    assert sums[0] != sums[2]


def test_given_parts_are_taken_over():
    ids = torch.arange(400).split([300, 40, 60])
    own = dict(zip(("train", "validation", "test"), ids, strict=True))
    given = {**own, "database": torch.arange(340)}
    found = parts("given", Collection(FEW.items, FEW.labels, given))
    assert {name: len(v) for name, v in found.items()} == {
        "train": 300,
        "validation": 40,
        "test": 60,
        "database": 340,
    }
    tuning = parts("given", Collection(FEW.items, FEW.labels, given), purpose="tune")
    assert tuning["database"] == set(range(300))


def test_validation_is_held_out_of_what_is_given():
    given = {"train": torch.arange(300), "test": torch.arange(300, 400)}
    for collection in (FEW, SEVERAL):
        found = parts("given", Collection(collection.items, collection.labels, given))
        assert len(found["validation"]) == 30
        assert found["train"] | found["validation"] == set(range(300)) == found["database"]


def test_a_query_that_would_find_itself_is_refused():
    given = {"train": torch.arange(300), "test": torch.arange(290, 400)}
    with pytest.raises(ValueError, match=r"10 test items \(the first is item 290\)"):
        split_by("given", Collection(FEW.items, FEW.labels, given), 0, "report")


def test_unseen_classes_are_unseen():
    splits = [split_by("unseen", FEW, seed, "report") for seed in range(5)]
    halves = {tuple(FEW.labels[s.database].unique().tolist()) for s in splits}
    assert len(halves) == 1  # no seed moves a class into training
    (unseen,) = halves
    assert len(unseen) == 5
    for split in splits:
        trained = set(FEW.labels[split.train].tolist())
        assert len(trained) == 5
        assert not trained & set(unseen)
        assert set(FEW.labels[split.test].tolist()) == set(unseen)
        assert torch.bincount(FEW.labels[split.test]).max() == 40 // 5
        assert len(split.test) + len(split.database) == 200
    tuning = split_by("unseen", FEW, 0, "tune")
    kept_out = set(FEW.labels[tuning.database].tolist())
    assert kept_out == set(FEW.labels[tuning.validation].tolist())
    assert len(kept_out) == 2
    assert not kept_out & (set(FEW.labels[tuning.train].tolist()) | set(unseen))


def test_unseen_labels_of_items_that_have_several():
    report, tuning = (split_by("unseen", SEVERAL, 0, p) for p in ("report", "tune"))
    rarest = ROWS.sum(0).argsort()[:6].tolist()
    seen = [label for label in range(12) if label not in rarest]
    assert int(ROWS[report.train][:, rarest].sum()) == 0
    for ids in (report.test, report.database):
        assert bool(ROWS[ids][:, rarest].any(1).all())
        # what they share with training items does not make them relevant
        assert int(report.labels[ids][:, seen].sum()) == 0
        assert torch.equal(report.labels[ids][:, rarest], ROWS[ids][:, rarest])
    assert torch.equal(report.labels[report.train], ROWS[report.train])
    kept_out = [
        label for label in seen if int(tuning.labels[tuning.database][:, label].sum())
    ]
    assert len(kept_out) == 2
    assert int(ROWS[tuning.train][:, kept_out].sum()) == 0
    assert torch.equal(SEVERAL.labels, ROWS)


def test_the_default_follows_the_source():
    assert default_protocol(CIFAR) == "given"
    assert default_protocol(FEW) == "random"


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("C-B", torch.arange(400) % 10, "class 0 has 0 items outside a test pool of 40"),
        (
            "given",
            torch.arange(400) % 10,
            "needs a source that says what is train and test",
        ),
        ("unseen", torch.arange(400) % 7, "needs 8 classes at least, got 7"),
        ("random", torch.arange(9) % 3, "leaves no queries in a set of 9 items"),
        ("unseen", torch.arange(10), "leaves no queries"),
    ],
)
def test_a_set_that_is_too_small_is_refused(name, labels, message):
    with pytest.raises(ValueError, match=message):
        split_by(name, Collection(torch.zeros(len(labels), 1), labels), 0, "report")


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_a_protocol_says_how_it_splits(name):
    text = PROTOCOLS[name].text.format(sizes="3 train, 1 test")
    assert "(3 train, 1 test)" in text
    assert text.endswith(".")


def test_a_database_of_seen_classes_is_free_of_training_items():
    for purpose in ("report", "tune"):
        split = split_by("seen", FEW, 0, purpose)
        parts = [set(split.train.tolist()), set(split.queries.tolist())]
        assert not set(split.database.tolist()) & set.union(*parts)
        assert not set.intersection(*parts)
        assert len(split.train) == 10 * (40 * 2 // 5)
        assert split.search_training


@pytest.mark.parametrize("seed", range(3))
def test_both_kinds_of_classes_are_searched_together(seed):
    split = split_by("both", FEW, seed, "report")
    trained, unseen = (
        set(FEW.labels[ids].tolist())
        for ids in (split.train, split_by("unseen", FEW, 0, "report").database)
    )
    assert split.mixed
    assert len(trained) == len(unseen) == 5
    assert not trained & unseen
    assert set(FEW.labels[split.database].tolist()) == trained | unseen
    assert set(FEW.labels[split.test].tolist()) == trained | unseen
    ids = [set(part.tolist()) for part in (split.train, split.test, split.database)]
    assert sum(map(len, ids)) == len(set.union(*ids)) == 400


def test_tuning_on_both_sees_neither_unseen_classes_nor_who_asks_in_reports():
    tuning = split_by("both", FEW, 0, "tune")
    used = {*tuning.train.tolist(), *tuning.validation.tolist(), *tuning.database.tolist()}
    reports = [split_by("both", FEW, seed, "report") for seed in range(8)]
    unseen = set(FEW.labels.tolist()) - set(FEW.labels[reports[0].train].tolist())
    assert not unseen & {int(FEW.labels[item]) for item in used}
    assert not used & {item for split in reports for item in split.test.tolist()}
    groups = [set(FEW.labels[part].tolist()) for part in (tuning.train, tuning.validation)]
    assert len(groups[1] - groups[0]) == 2  # which play unseen ones


def test_without_labels_the_database_is_what_is_learned_from():
    tuning = split_by("unlabelled", FEW, 0, "tune")
    reports = [split_by("unlabelled", FEW, seed, "report") for seed in range(8)]
    asked = {item for split in reports for item in split.test.tolist()}
    assert not asked & {*tuning.database.tolist(), *tuning.validation.tolist()}
    for split in (tuning, *reports):
        assert not split.labelled
        assert torch.equal(split.train, split.database)
        assert not set(split.queries.tolist()) & set(split.database.tolist())
    assert len(asked) > len(reports[0].test)


def test_both_needs_one_class_an_item():
    with pytest.raises(ValueError, match="both needs one class an item"):
        split_by("both", SEVERAL, 0, "report")
