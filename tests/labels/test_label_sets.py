import pytest
import torch
from pytorch_metric_learning import miners
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from pml_nmlayer.labels import LabelSets, as_label_sets, check_miner
from tests import naive

ROWS = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0], [0, 0, 0]])
REF = torch.tensor([[1, 0, 0], [0, 0, 0], [0, 1, 1]])


def pairs(indices):
    a1, p, a2, n = (index.tolist() for index in indices)
    return sorted(zip(a1, p, strict=True)), sorted(zip(a2, n, strict=True))


def test_pairs_equal_loop():
    assert pairs(lmu.get_all_pairs_indices(LabelSets(ROWS))) == naive.multilabel_pairs(
        ROWS.tolist()
    )
    mined = lmu.get_all_pairs_indices(LabelSets(ROWS), LabelSets(REF))
    assert pairs(mined) == naive.multilabel_pairs(ROWS.tolist(), REF.tolist())


@pytest.mark.parametrize("limit", [2**31 - 1, 1], ids=["vectorised", "PML's loop"])
def test_triplets_equal_loop(limit, monkeypatch):
    # PML leaves its vectorised path for a loop over anchors when a batch is huge
    info = type("info", (), {"max": limit})
    monkeypatch.setattr(lmu.torch, "iinfo", lambda _: info)
    for ref in (None, REF):
        sets = None if ref is None else LabelSets(ref)
        triplets = lmu.get_all_triplets_indices(LabelSets(ROWS), sets)
        expected = naive.multilabel_triplets(
            ROWS.tolist(), None if ref is None else ref.tolist()
        )
        found = zip(*(index.tolist() for index in triplets), strict=True)
        assert sorted(found) == sorted(expected)


def test_ids_tell_which_items_are_the_same():
    # rows 4 and 5 have no labels: equal to nothing but themselves
    memory = torch.cat([REF, ROWS])
    sets = LabelSets(ROWS, ids=torch.arange(3, 9))
    others = LabelSets(memory, ids=torch.arange(9))
    same = sets.unsqueeze(1) == others.unsqueeze(0)
    assert same[4].tolist() == [False] * 7 + [True, False]
    assert same[0].tolist() == [True, False, True, True, True, False, True, False, False]


def test_a_copy_stands_for_other_items():
    sets = LabelSets(ROWS, ids=torch.arange(6))
    same = sets.unsqueeze(1) == sets.clone().unsqueeze(0)
    assert not same[4].any()
    assert same[0, 0]


def test_moves_to_a_device():
    sets = LabelSets(ROWS, ids=torch.arange(6)).to(torch.device("meta"))
    assert sets.device.type == sets.ids.device.type == "meta"


def test_looks_like_class_ids():
    sets = LabelSets(ROWS)
    assert (sets.shape, sets.ndim, len(sets)) == ((6,), 1, 6)


def test_only_rows_become_sets():
    assert isinstance(as_label_sets(ROWS), LabelSets)
    ids = torch.arange(3)
    assert as_label_sets(ids) is ids
    assert as_label_sets(None) is None


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda s: torch.unique(s), ValueError, "torch.unique needs class ids"),
        (lambda s: torch.bincount(s), ValueError, "torch.bincount needs class ids"),
        (lambda s: s == s, TypeError, "only, got LabelSets"),
        (lambda s: s == 3, TypeError, "only, got int"),
        (lambda s: s.unsqueeze(0) == s.unsqueeze(1), TypeError, "unsqueeze"),
        (lambda s: as_label_sets(ROWS * 2), ValueError, "must hold 0 and 1 only"),
        (
            lambda s: miners.DistanceWeightedMiner()(torch.randn(6, 4), s),
            ValueError,
            "torch.unique needs class ids",
        ),
        (
            lambda s: check_miner(miners.DistanceWeightedMiner()),
            ValueError,
            "DistanceWeightedMiner samples class by class",
        ),
    ],
)
def test_refuses_what_it_cannot_answer(use, error, message):
    with pytest.raises(error, match=message):
        use(LabelSets(ROWS))
