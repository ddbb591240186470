import pytest
import torch
from pytorch_metric_learning import miners
from pytorch_metric_learning.distances import CosineSimilarity

from pml_nmlayer.miners import MultiLabelMiner
from tests import naive

IDS = torch.tensor([0, 0, 1, 1, 2, 2, 2, 3, 3])
ONE_HOT = torch.nn.functional.one_hot(IDS)
ROWS = torch.tensor(
    [[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]]
)
PML = {
    "angular": lambda: miners.AngularMiner(angle=5),
    "batch hard": miners.BatchHardMiner,
    "easy hard": lambda: miners.BatchEasyHardMiner("easy", "semihard"),
    "hdc": miners.HDCMiner,
    "multi similarity": miners.MultiSimilarityMiner,
    "pair margin": miners.PairMarginMiner,
    "triplet margin": miners.TripletMarginMiner,
    "histogram": miners.UniformHistogramMiner,
    "packaged": miners.EmbeddingsAlreadyPackagedAsTriplets,
}


@pytest.mark.parametrize("make", PML.values(), ids=PML)
@pytest.mark.parametrize("with_ref", [False, True])
def test_one_hot_rows_mine_as_class_ids(make, with_ref):
    u = torch.randn(len(IDS), 6)
    ref = (torch.randn(5, 6), IDS[:5]) if with_ref else ()
    ref_rows = (ref[0], ONE_HOT[:5]) if with_ref else ()
    torch.manual_seed(1)  # the histogram miner samples
    expected = make()(u, IDS, *ref)
    torch.manual_seed(1)
    mined = MultiLabelMiner(make())(u, ONE_HOT, *ref_rows)
    assert len(mined) == len(expected)
    for index, wanted in zip(mined, expected, strict=True):
        assert torch.equal(index, wanted)


def test_without_a_miner_all_pairs():
    a1, p, a2, n = (index.tolist() for index in MultiLabelMiner()(torch.randn(8, 4), ROWS))
    found = list(zip(a1, p, strict=True)), list(zip(a2, n, strict=True))
    assert found == naive.multilabel_pairs(ROWS.tolist())


def test_batch_hard_equals_loop():
    u = torch.randn(len(ROWS), 6)
    similarity = CosineSimilarity()(u).tolist()
    pos, neg = naive.multilabel_pairs(ROWS.tolist())
    expected = []
    for i in range(8):
        positives = [j for a, j in pos if a == i]
        negatives = [j for a, j in neg if a == i]
        if positives and negatives:
            hardest = min(positives, key=lambda j: similarity[i][j])
            nearest = max(negatives, key=lambda j: similarity[i][j])
            expected.append((i, hardest, nearest))
    mined = MultiLabelMiner(miners.BatchHardMiner(distance=CosineSimilarity()))(u, ROWS)
    assert list(zip(*(index.tolist() for index in mined), strict=True)) == expected


def test_class_ids_pass_through():
    u = torch.randn(len(IDS), 6)
    miner = miners.MultiSimilarityMiner()
    for index, wanted in zip(MultiLabelMiner(miner)(u, IDS), miner(u, IDS), strict=True):
        assert torch.equal(index, wanted)


def test_counts_what_it_mined():
    miner = MultiLabelMiner(collect_stats=True)
    miner(torch.randn(8, 4), ROWS)
    pos, neg = naive.multilabel_pairs(ROWS.tolist())
    assert (miner.num_pos_pairs, miner.num_neg_pairs) == (len(pos), len(neg))


def test_refuses_a_miner_that_walks_through_classes():
    with pytest.raises(ValueError, match="DistanceWeightedMiner samples class by class"):
        MultiLabelMiner(miners.DistanceWeightedMiner())
