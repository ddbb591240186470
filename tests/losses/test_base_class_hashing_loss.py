import pytest
import torch
from pytorch_metric_learning import miners
from pytorch_metric_learning.losses import NormalizedSoftmaxLoss

from pml_nmlayer.losses import (
    CSQLoss,
    DPNLoss,
    DSDHLoss,
    GreedyHashLoss,
    JMLHLoss,
    OrthoHashLoss,
)

CLASSES = [CSQLoss, DPNLoss, DSDHLoss, GreedyHashLoss, JMLHLoss, OrthoHashLoss]
LABELS = torch.tensor([0, 0, 1, 2])
U_OF_FOUR = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))


def test_a_miner_weighs_items_as_in_pml():
    # A loss of PML that is 1 an item shows PML's weights: mean over items of weight.
    u = torch.randn(4, 8)
    pairs = miners.MultiSimilarityMiner(epsilon=0.1)(u, LABELS)
    pairs = (pairs[0][:1], pairs[1][:1], pairs[2][:3], pairs[3][:3])
    counts = torch.cat(pairs).bincount(minlength=4).double()
    theirs = NormalizedSoftmaxLoss(3, 8)
    plain = torch.stack([theirs(u[i : i + 1], LABELS[i : i + 1]) for i in range(4)])
    weighted = (plain * counts / counts.max()).mean()
    torch.testing.assert_close(theirs(u, LABELS, pairs).double(), weighted)

    for cls in set(CLASSES) - {DSDHLoss}:  # whose pairs need more than one item
        loss = cls(3, 8).eval()
        plain = torch.stack([loss(u[i : i + 1], LABELS[i : i + 1]) for i in range(4)])
        weighted = (plain * counts / counts.max()).mean()
        torch.testing.assert_close(loss(u, LABELS, pairs).double(), weighted)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_no_mined_pair_leaves_the_weights_alone(cls):
    u, none = torch.randn(4, 8), (torch.zeros(0, dtype=torch.long),) * 4
    loss = cls(3, 8).eval()
    torch.testing.assert_close(loss(u, LABELS, none), loss(u, LABELS))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda cls: cls(0, 8), "must be >= 1|num_classes >= 1"),
        (lambda cls: cls(3, 0), "must be >= 1|bits >= 1"),
        (lambda cls: cls(3, 8)(torch.randn(4, 8)), "labels are required"),
        (
            lambda cls: cls(3, 8)(
                torch.randn(4, 8), LABELS, None, torch.randn(4, 8), LABELS
            ),
            "ref_emb is not supported",
        ),
    ],
)
def test_bad_input(cls, call, message):
    with pytest.raises(ValueError, match=message):
        call(cls)


def test_another_width_is_refused():
    with pytest.raises(ValueError, match="embedding_size=5 columns, got 4"):
        CSQLoss(3, 5)(torch.zeros(2, 4), torch.tensor([0, 1]))
