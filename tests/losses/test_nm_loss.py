import pytest
import torch
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.losses import BaseMetricLossFunction

from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import DPSHLoss, NMLoss

LABELS = torch.arange(24) % 4
WRAPPED = [
    losses.ContrastiveLoss(),
    losses.TripletMarginLoss(),
    losses.MultiSimilarityLoss(),
    losses.SupConLoss(),
    losses.NTXentLoss(),
    losses.FastAPLoss(),
    losses.CrossBatchMemory(losses.ContrastiveLoss(), embedding_size=12, memory_size=64),
    losses.MultipleLosses([losses.SupConLoss(), losses.CircleLoss()]),
    DPSHLoss(),
]


def head():
    return ProgressiveHead(6, bits=(12, 6))


@pytest.mark.parametrize("loss", WRAPPED, ids=lambda loss: type(loss).__name__)
def test_the_loss_is_unchanged_and_the_head_observes(loss):
    h = head()
    wrapped = NMLoss(loss, h)
    assert isinstance(wrapped, BaseMetricLossFunction)
    embeddings = h(torch.randn(24, 6))
    value = wrapped(embeddings, LABELS)
    assert h.layers[0].graph.items == 24
    if isinstance(loss, losses.CrossBatchMemory):
        loss.reset_queue()
    torch.testing.assert_close(value, loss(embeddings, LABELS), rtol=0, atol=0)
    value.backward()
    assert h.linear.weight.grad.any()


def test_pairs_and_reference_sets_reach_the_loss():
    h = head()
    u, ref = torch.randn(24, 12), torch.randn(8, 12)
    ref_labels = torch.arange(8) % 4
    pairs = miners.MultiSimilarityMiner()(u, LABELS, ref, ref_labels)
    loss = losses.ContrastiveLoss()
    value = NMLoss(loss, h)(u, LABELS, pairs, ref, ref_labels)
    torch.testing.assert_close(
        value, loss(u, LABELS, pairs, ref, ref_labels), rtol=0, atol=0
    )


def test_nothing_is_observed_in_validation():
    h = head()
    loss = NMLoss(losses.SupConLoss(), h)
    loss.eval()(torch.randn(24, 12), LABELS)
    loss.train()
    with torch.no_grad():
        loss(torch.randn(24, 12), LABELS)
    assert h.layers[0].graph.items == 0
    loss(torch.randn(24, 12), LABELS)
    assert h.layers[0].graph.items == 24


def test_multi_hot_labels_reach_a_loss_that_takes_them():
    rows = torch.nn.functional.one_hot(LABELS)
    u = torch.randn(24, 12)
    assert NMLoss(DPSHLoss(), head())(u, rows) == NMLoss(DPSHLoss(), head())(u, LABELS)


def test_the_head_is_no_part_of_the_loss():
    loss = NMLoss(losses.ProxyAnchorLoss(4, 12), head())
    assert [name for name, _ in loss.named_parameters()] == ["loss.proxies"]
    assert list(loss.state_dict()) == ["loss.proxies"]


def test_nan_embeddings_give_nan_and_leave_the_graph_alone():
    h = head()
    u = torch.randn(24, 12)
    u[0, 0] = torch.nan
    assert NMLoss(DPSHLoss(), h)(u, LABELS).isnan()
    assert h.layers[0].graph.items == 0
    assert h.layers[0].graph.skipped_batches == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NMLoss(None, head()), TypeError, "loss must be callable"),
        (lambda: NMLoss(DPSHLoss(), torch.nn.Linear(2, 2)), TypeError, "got Linear"),
        (
            lambda: NMLoss(DPSHLoss(), head())(torch.randn(3, 12), LABELS),
            ValueError,
            "3 items but 24 labels",
        ),
        (
            lambda: NMLoss(DPSHLoss(), head())(torch.randn(24, 11), LABELS),
            ValueError,
            r"shape \(B, 12\)",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
