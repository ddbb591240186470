"""Loss and gradient of NMLoss at inputs that a user can have."""

import pytest
import torch
from pytorch_metric_learning import losses

from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import CSQLoss, DPSHLoss, NMLoss

B, F, C = 8, 6, 4
X = torch.randn(B, F, generator=torch.Generator().manual_seed(0))
Y = torch.arange(B) % C
LOSSES = {
    "contrastive": lambda head: losses.ContrastiveLoss(),
    "multi-similarity": lambda head: losses.MultiSimilarityLoss(),
    "DPSH": lambda head: DPSHLoss(),
    "proxies": lambda head: losses.ProxyAnchorLoss(C, 12),
    "centres": lambda head: CSQLoss(C, 12),
}
HEADS = {
    "tanh": {},
    "linear": {"activation": None},
    "classes": {"num_classes": C},
    "classes, linear": {"num_classes": C, "activation": None},
    "all lengths": {"num_classes": C, "longer": "joint"},
    "batch norm": {"num_classes": C, "batch_norm": True},
}


def all_outputs_0(head):
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    return X, Y


def large_outputs(head):
    """|u| of 100 and more before the activation."""
    torch.nn.init.constant_(head.linear.bias, 100.0)
    with torch.no_grad():
        head.linear.weight.mul_(100)
        head.linear.bias[::2] = -100
    return X, Y


def large_inputs(head):
    return 1e4 * X, Y


POINTS = {
    "all outputs 0": all_outputs_0,
    "|u| = 100": large_outputs,
    "large inputs": large_inputs,
    "inputs 0": lambda head: (torch.zeros(B, F), Y),
    "all items alike": lambda head: (X[:1].expand(B, F), Y),
    "one class": lambda head: (X, torch.full((B,), 2)),
    "each its own class": lambda head: (X[:C], torch.arange(C)),
    "one item": lambda head: (X[:1], Y[:1]),
}


def points_of(options):
    """All but one item, of which torch's batch norm wants two."""
    return [name for name in POINTS if (options, name) != ("batch norm", "one item")]


@pytest.mark.parametrize("options", HEADS)
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_and_gradient_are_finite(loss, options):
    """At each point before a merge or after it: of two losses or heads, one is either."""
    number = [*LOSSES].index(loss) + [*HEADS].index(options)
    for place, point in enumerate(points_of(options), start=number):
        torch.manual_seed(0)
        head = ProgressiveHead(F, (12, 6), **HEADS[options])
        wrapped = NMLoss(LOSSES[loss](head), head)
        if place % 2:
            wrapped(head(X), Y)
            head.merge_next()
        x, y = POINTS[point](head)
        x = x.clone().requires_grad_()
        value = wrapped(head(x), y)
        value.backward()
        assert value.isfinite(), point
        assert x.grad.isfinite().all(), point
        for name, parameter in [*head.named_parameters(), *wrapped.named_parameters()]:
            assert parameter.grad is None or parameter.grad.isfinite().all(), (point, name)


@pytest.mark.filterwarnings("ignore:1 of 4 classes were seen")
@pytest.mark.parametrize("point", POINTS)
def test_a_merge_follows_such_a_batch(point):
    head = ProgressiveHead(F, (12, 6), num_classes=C)
    x, y = POINTS[point](head)
    NMLoss(DPSHLoss(), head)(head(x), y)
    head.merge_next()
    assert head(X).isfinite().all()
    assert head.fold()(X).isfinite().all()


@pytest.mark.parametrize("options", HEADS)
def test_no_gradient_explodes_where_all_terms_are_ours(options):
    """PML's proxies do at outputs of 0, which they divide by their length."""
    for point in points_of(options):
        torch.manual_seed(0)
        head = ProgressiveHead(F, (12, 6), **HEADS[options])
        loss = NMLoss(DPSHLoss(), head)
        x, y = POINTS[point](head)
        u = head(x)
        loss(u, y).backward()
        # the quantization term of DPSH grows with the outputs
        assert head.linear.bias.grad.abs().max() < 10 * (1 + u.abs().max()), point
