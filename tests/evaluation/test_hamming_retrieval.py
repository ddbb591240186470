"""The accumulating object equals one evaluation of everything."""

import copy
import pickle

import pytest
import torch

from pml_nmlayer.codes import unpack_codes
from pml_nmlayer.evaluation import HammingAccuracyCalculator, HammingRetrieval
from pml_nmlayer.labels import jaccard
from pml_nmlayer.ranking import mean_average_precision, mean_by_class
from tests.hamming.test_hamming import random_codes, random_labels
from tests.processes import process_group, run_group

NAMES = (
    "hamming_map",
    "hamming_map_at_7",
    "hamming_map_at_7_worst",
    "hamming_map_conventional",
    "hamming_mrr",
    "hamming_map_at_r",
    "hamming_ndcg_at_5",
    "hamming_acg_at_5",
    "hamming_wap",
    "hamming_tied_at_3",
    "Recall@1",
    "Recall@5",
    "precision_at_radius_5",
    "bit_entropy",
    "bit_importance_gini",
    "distinct_codes",
)
U, V = torch.randn(23, 12), torch.randn(60, 12)


def judged(u, y, v=None, z=None, **options):
    calculator = HammingAccuracyCalculator(include=NAMES, device=torch.device("cpu"))
    return calculator.get_accuracy(u, y, v, z, **options)


def filled(*batches, names=NAMES, **options):
    metric = HammingRetrieval(names, **options)
    for batch in batches:
        metric.update(*batch)
    return metric


@pytest.mark.parametrize("kind", ["class ids", "multi-hot"])
def test_batches_equal_the_whole(kind):
    z = random_labels(60, kind)
    metric = filled(*zip(V.split(17), z.split(17), strict=True))
    assert metric.compute() == pytest.approx(judged(V, z))
    y = random_labels(23, kind, 5)
    metric.reset()
    for u, labels in zip(U.split(9), y.split(9), strict=True):
        metric.update(u, labels, role="query")
    metric.update(V, z, role="reference")
    assert metric.compute() == pytest.approx(judged(U, y, V, z))
    # a small budget: queries come in blocks
    small = filled((V, z), max_bytes=2**20)
    small.max_bytes = 2**20
    assert small.compute() == pytest.approx(judged(V, z))


def test_more_items_of_the_database():
    y, z = random_labels(23, "class ids"), random_labels(60, "class ids")
    metric = filled((U, y), names=["hamming_map"])
    metric.update(V, z, role="reference")
    codes = torch.cat([U, V]).sign(), torch.cat([y, z])
    expected = mean_average_precision(codes[0][:23], y, *codes, ref_includes_query=True)
    assert metric.compute()["hamming_map"] == pytest.approx(expected)


def test_groups_are_left_out():
    z, groups = random_labels(60, "class ids"), torch.arange(60) // 4
    metric = HammingRetrieval(NAMES)
    for rows in torch.arange(60).split(13):
        metric.update(V[rows], z[rows], groups=groups[rows])
    expected = judged(V, z, exclude_pairs=(groups, groups))
    assert metric.compute() == pytest.approx(expected)
    assert metric.compute() != pytest.approx(judged(V, z))


def test_items_of_one_id_count_once():
    z, ids = random_labels(60, "class ids"), torch.arange(60) % 40
    repeated = V[ids], z[ids]
    metric = HammingRetrieval(NAMES)
    metric.update(*repeated, ids=ids)
    assert metric.compute() == pytest.approx(judged(V[:40], z[:40]))


def test_per_class_and_empty():
    z = random_labels(60, "multi-hot")
    z[:30, 2] = 0
    metric = filled((V, z), names=["hamming_mrr", "distinct_codes"], per_class=True)
    found = metric.compute()
    assert list(found["hamming_mrr"]) == [0, 1, 2]
    assert isinstance(found["distinct_codes"], float)
    lone = filled((V[:2], torch.tensor([3, 4])), names=["hamming_map"], empty="zero")
    assert lone.compute() == {"hamming_map": 0.0}


def test_grades_of_ones_own():
    z = torch.randint(0, 3, (60, 4))
    options = {"relevance": lambda a, b: (a @ b.T).clamp(max=5), "grades": 6}
    metric = filled((V, z), names=["hamming_acg_at_9", "hamming_wap_at_9"], **options)
    calculator = HammingAccuracyCalculator(
        include=metric.metrics, device=torch.device("cpu"), **options
    )
    assert metric.compute() == pytest.approx(calculator.get_accuracy(V, z))


def test_state_copies_and_merging():
    z = random_labels(60, "class ids")
    whole = filled((V, z)).compute()
    one, other = filled((V[:25], z[:25])), filled((V[25:], z[25:]))
    one.merge(other)
    assert one.compute() == whole
    for copied in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert copied.compute() == whole
    restored = HammingRetrieval(NAMES)
    restored.load_state_dict(one.state_dict())
    assert restored.compute() == whole
    empty = HammingRetrieval(NAMES)
    empty.load_state_dict(HammingRetrieval(NAMES).state_dict())
    empty.merge(one)
    assert empty.compute() == whole


def work(rank, folder):
    with process_group(rank, 2, folder):
        z = random_labels(60, "class ids")
        own = torch.arange(60)[rank::2] if rank == 0 else torch.arange(60)[1::2]
        metric = HammingRetrieval(NAMES)
        metric.update(V_SEEDED[own], z[own], ids=own)
        torch.save(metric.compute(), f"{folder}/{rank}.pt")


V_SEEDED = random_codes(60, 12, 9)


def test_two_processes_equal_one(tmp_path):
    run_group(work, 2, str(tmp_path))
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    order = torch.cat([torch.arange(60)[0::2], torch.arange(60)[1::2]])
    z = random_labels(60, "class ids")
    assert ranks[0] == pytest.approx(judged(V_SEEDED[order], z[order]))


def test_memory_of_an_item():
    metric = filled((V, torch.arange(60) % 3), names=["hamming_map"])
    (side,) = metric.sides["both"]
    assert side.codes.shape == (60, 2)
    assert torch.equal(unpack_codes(side.codes, 12), torch.where(V >= 0, 1.0, -1.0))


def test_values_by_class_equal_the_function():
    z = torch.arange(60) % 3
    found = filled((V, z), names=["hamming_hit_rate_at_1"], per_class=True).compute()
    assert set(found["hamming_hit_rate_at_1"]) == {0, 1, 2}
    mean = sum(found["hamming_hit_rate_at_1"].values()) / 3
    assert filled((V, z), names=["Recall@1"]).compute()["Recall@1"] == pytest.approx(mean)
    assert mean_by_class(torch.ones(60), z) == {0: 1, 1: 1, 2: 1}
    assert jaccard(z[:2]).shape == (2, 2)


def update(*args, **options):
    metric = filled((V, torch.arange(60) % 3), names=["hamming_map"])
    metric.update(*args, **options)
    return metric.compute()


Y = torch.arange(23) % 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: HammingRetrieval("hamming_map"), TypeError, "list of names"),
        (lambda: HammingRetrieval([]), TypeError, "list of names"),
        (lambda: HammingRetrieval(["map"]), ValueError, "'map' is no metric"),
        (lambda: HammingRetrieval(["hamming_map_at_k"]), ValueError, "number for k"),
        (lambda: HammingRetrieval(["hamming_map_at_0"]), ValueError, "no metric"),
        (lambda: HammingRetrieval(normalizer="all"), ValueError, "normalizer must be"),
        (lambda: HammingRetrieval(empty="nan"), ValueError, "empty must be one of"),
        (lambda: HammingRetrieval(per_class="yes"), TypeError, "per_class must be True"),
        (lambda: HammingRetrieval(max_bytes=9), ValueError, "max_bytes must be >="),
        (lambda: HammingRetrieval().compute(), ValueError, "no queries were added"),
        (lambda: update(U, Y, role="other"), ValueError, "role must be one of both"),
        (lambda: update(U, Y, role="query"), ValueError, "do not go together"),
        (lambda: update(U[:, :5], Y), ValueError, "have 5 bits, before 12"),
        (lambda: update(U, Y[:9]), ValueError, "23 items but 9 labels"),
        (lambda: update(U, torch.stack([Y % 2, Y % 2], 1)), ValueError, "of one kind"),
        (lambda: update(U, ["owl"] * 23), TypeError, "LabelMap"),
        (lambda: update(U, Y[:, None]), ValueError, "are a column"),
        (lambda: update(U * torch.nan, Y), ValueError, "hold NaN"),
        (lambda: update(U > 0, Y), TypeError, "are bool"),
        (lambda: update((U > 0).byte(), Y), TypeError, "uint8, as packed codes"),
        (lambda: update(U, Y, groups=Y), ValueError, "some batches have groups"),
        (lambda: update(U, Y, ids=Y / 2), ValueError, "23 whole numbers"),
        (
            lambda: filled((U.relu(), Y), names=["hamming_map"]).compute(),
            ValueError,
            "never negative",
        ),
        (
            lambda: filled(((U > 0).long(), Y), names=["hamming_map"]).compute(),
            ValueError,
            "bits of 0 and 1",
        ),
        (lambda: HammingRetrieval().merge(3), TypeError, "must be a HammingRetrieval"),
        (lambda: HammingRetrieval().load_state_dict({}), ValueError, "state must have"),
        (
            lambda: filled((U, Y)).merge(filled((U[:, :4], Y))),
            ValueError,
            "other has 4 bits, this has 12",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
