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
from pml_nmlayer.losses.base_class_hashing_loss import class_rows

CLASSES = [CSQLoss, DPNLoss, DSDHLoss, GreedyHashLoss, JMLHLoss, OrthoHashLoss]
LABELS = torch.tensor([0, 0, 1, 2])
U_OF_FOUR = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("id_dtype", [torch.int64, torch.int32, torch.uint8])
def test_class_rows(id_dtype, dtype, device):
    u = torch.zeros(3, 4, dtype=dtype, device=device)
    ids = torch.tensor([2, 0, 2], dtype=id_dtype, device=device)
    expected = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 0, 1]], device=device)
    assert torch.equal(class_rows(ids, 3, u, 4), expected.to(dtype))
    assert torch.equal(class_rows(expected.bool(), 3, u, 4), expected.to(dtype))


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
        (lambda cls: cls(0, 8), "at least 1|num_classes >= 1"),
        (lambda cls: cls(3, 0), "at least 1|bits >= 1"),
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


U = torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_rows(torch.tensor([0, 3]), 3, U, 4), r"\[0, num_classes=3\), got 0"),
        (lambda: class_rows(torch.tensor([-1, 2]), 3, U, 4), "got -1 to 2"),
        (lambda: class_rows(torch.tensor([0.0, 1.0]), 3, U, 4), "must be integers"),
        (lambda: class_rows(torch.ones(2, 4), 3, U, 4), "num_classes=3 columns, got 4"),
        (lambda: class_rows(torch.full((2, 3), 2), 3, U, 4), "hold 0 and 1 only"),
        (lambda: class_rows(torch.tensor([0, 1]), 3, U, 5), "embedding_size=5 columns"),
    ],
)
def test_rows_refuse_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
