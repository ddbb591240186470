import pytest
import torch
from pytorch_metric_learning import losses

from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import (
    CSQLoss,
    DPSHLoss,
    HashSelfSupervisedLoss,
    NMLoss,
)
from pml_nmlayer.losses.cross_batch_memory import PAIRWISE_LOSSES
from tests.compatibility import build, our_classes

B, K = 6, 16
U = torch.randn(B, K, generator=torch.Generator().manual_seed(0))
V = torch.randn(B, K, generator=torch.Generator().manual_seed(1))
IDS = torch.arange(B)
PAIRWISE = [cls for cls in our_classes() if cls.__name__ in PAIRWISE_LOSSES]


@pytest.mark.parametrize("cls", [*PAIRWISE, losses.NTXentLoss])
def test_two_views_are_similar_and_nothing_else(cls):
    u, v = U.clone().requires_grad_(), V.clone().requires_grad_()
    value = HashSelfSupervisedLoss(build(cls))(u, v)
    value.backward()
    expected = build(cls)(torch.cat([U, V]), torch.cat([IDS, IDS]))
    torch.testing.assert_close(value.detach(), expected)
    assert u.grad.abs().sum() > 0
    assert v.grad.abs().sum() > 0
    one_side = HashSelfSupervisedLoss(build(cls), symmetric=False)(U, V)
    expected = build(cls)(U, IDS, ref_emb=V, ref_labels=IDS.clone())
    torch.testing.assert_close(one_side, expected)


def test_training_brings_views_together():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(32, 10, generator=generator)
    layer, loss = torch.nn.Linear(10, 24), HashSelfSupervisedLoss(DPSHLoss())
    optimizer = torch.optim.Adam(layer.parameters(), 0.02)

    def views():
        return [layer(x + 0.2 * torch.randn(x.shape, generator=generator)) for _ in "ab"]

    def agreement():
        one, other = views()
        return ((one > 0) == (other > 0)).float().mean()

    before = agreement()
    for _ in range(60):
        optimizer.zero_grad()
        loss(*views()).backward()
        optimizer.step()
    assert agreement() > before
    one, other = (view.detach().sign() for view in views())
    assert ((one @ other.T).argmax(1) == torch.arange(32)).float().mean() > 0.9


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"longer": "joint"}, {"constant_width": True}], ids=str
)
@pytest.mark.parametrize("cls", [DPSHLoss, losses.NTXentLoss, losses.ContrastiveLoss])
def test_with_a_head_that_merges(cls, options, symmetric):
    head = ProgressiveHead(10, bits=(16, 8), **options)
    loss = HashSelfSupervisedLoss(NMLoss(cls(), head), symmetric=symmetric)
    x = torch.randn(B, 10)
    for stage in (0, 1):
        value = loss(head(x), head(x + 0.1))
        if not options:
            plain = HashSelfSupervisedLoss(cls(), symmetric=symmetric)
            torch.testing.assert_close(value, plain(head(x), head(x + 0.1)))
        value.backward()
        assert head.linear.weight.grad.isfinite().all()
        assert head.linear.weight.grad.any()
        if stage == 0:
            assert head.layers[0].graph.items == (2 * B if symmetric else B)
            head.merge_next()
    assert head.bits == 8


def test_pml_refuses_nm_loss_by_its_name():
    wrapped = NMLoss(losses.NTXentLoss(), ProgressiveHead(10, bits=(16, 8)))
    with pytest.raises(Exception, match="not supported for NMLoss"):
        losses.SelfSupervisedLoss(wrapped)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: HashSelfSupervisedLoss(CSQLoss(4, K)),
            "does not support CSQLoss; use one",
        ),
        (lambda: HashSelfSupervisedLoss(torch.nn.Identity()), "support Identity"),
        (
            lambda: HashSelfSupervisedLoss(
                NMLoss(DPSHLoss(), ProgressiveHead(10, bits=(16, 8), num_classes=4))
            ),
            "without class ids, but the head has num_classes=4",
        ),
        (
            lambda: HashSelfSupervisedLoss(
                NMLoss(losses.ArcFaceLoss(4, K), ProgressiveHead(10, bits=(16, 8)))
            ),
            "does not support ArcFaceLoss",
        ),
        *[
            (
                lambda views=views: NMLoss(views, ProgressiveHead(10, bits=(16, 8))),
                r"two views and no labels.*HashSelfSupervisedLoss\(NMLoss\(loss, head\)\)",
            )
            for views in (
                losses.SelfSupervisedLoss(losses.NTXentLoss()),
                HashSelfSupervisedLoss(DPSHLoss()),
            )
        ],
        (lambda: HashSelfSupervisedLoss(DPSHLoss())(U, V[:3]), r"\(6, 16\) and \(3, 16\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
