"""Laws that hold for every hashing loss; what is special to one stands in its own file."""

import inspect

import pytest
import torch
from pytorch_metric_learning.miners import MultiSimilarityMiner
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from pml_nmlayer.losses.base_class_hashing_loss import BaseClassHashingLoss
from tests.compatibility import our_classes

CLASSES, BITS = 4, 8
LABELS = torch.tensor([0, 0, 1, 1, 2, 0])
CLASS_WISE = [cls for cls in our_classes() if issubclass(cls, BaseClassHashingLoss)]
PAIRWISE = [cls for cls in our_classes() if cls not in CLASS_WISE]

every_loss = pytest.mark.parametrize("cls", our_classes(), ids=lambda c: c.__name__)
pairwise_loss = pytest.mark.parametrize("cls", PAIRWISE, ids=lambda c: c.__name__)
class_wise_loss = pytest.mark.parametrize("cls", CLASS_WISE, ids=lambda c: c.__name__)


def build(cls, bits=BITS, **kwargs):
    """A loss in eval mode, in which none draws at random or counts its batches."""
    sizes = (CLASSES, bits) if issubclass(cls, BaseClassHashingLoss) else ()
    return cls(*sizes, **kwargs).eval()


def test_there_are_losses_of_both_kinds():
    assert len(PAIRWISE) == 8
    assert len(CLASS_WISE) == 6


@every_loss
def test_one_hot_rows_equal_class_ids(cls, dtype):
    u, loss = torch.randn(6, BITS, dtype=dtype), build(cls)
    rows = torch.nn.functional.one_hot(LABELS, CLASSES)
    torch.testing.assert_close(loss(u, rows), loss(u, LABELS))


@every_loss
def test_the_order_of_the_batch_does_not_matter(cls, dtype):
    u, loss = torch.randn(6, BITS, dtype=dtype), build(cls)
    order = torch.randperm(6)
    torch.testing.assert_close(loss(u[order], LABELS[order]), loss(u, LABELS))


@every_loss
def test_an_empty_batch_is_exactly_zero_with_a_gradient(cls, dtype):
    u = torch.randn(0, BITS, dtype=dtype, requires_grad=True)
    loss = build(cls)(u, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert u.grad.shape == (0, BITS)


@pairwise_loss
def test_one_item_has_no_pair_and_is_exactly_zero_with_a_gradient(cls, dtype):
    u = torch.randn(1, BITS, dtype=dtype, requires_grad=True)
    loss = build(cls)(u, torch.tensor([0]))
    loss.backward()
    assert loss.item() == 0
    assert not u.grad.any()


@every_loss
@pytest.mark.parametrize(
    "labels",
    [torch.zeros(4, dtype=torch.long), torch.zeros(4, CLASSES), torch.arange(4)],
    ids=["one class", "no labels", "all different"],
)
def test_extreme_batches_are_finite(cls, labels):
    u = torch.randn(4, BITS, requires_grad=True)
    loss = build(cls)
    value = loss(u, labels)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(u.grad).all()
    for parameter in loss.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


@every_loss
def test_large_outputs_are_finite(cls):
    u = (100 * torch.randn(6, BITS)).requires_grad_()
    value = build(cls)(u, LABELS)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(u.grad).all()


@every_loss
def test_nan_gives_nan(cls):
    u = torch.randn(6, BITS)
    u[2, 3] = torch.nan
    assert build(cls)(u, LABELS).isnan()


@pairwise_loss
def test_bit_order_and_negation_do_not_matter(cls, dtype):
    u, loss = torch.randn(6, 9, dtype=dtype), build(cls, 9)
    flip = torch.where(torch.rand(9) < 0.5, 1.0, -1.0).to(dtype)
    changed = u[:, torch.randperm(9)] * flip
    torch.testing.assert_close(loss(changed, LABELS), loss(u, LABELS))


@pairwise_loss
def test_pairs_that_leave_nothing_out_change_nothing(cls, dtype):
    u, y = torch.randn(4, BITS, dtype=dtype), torch.tensor([0, 0, 1, 1])
    loss = build(cls)
    mined = MultiSimilarityMiner(epsilon=2.0)(u, y)
    torch.testing.assert_close(loss(u, y, mined), loss(u, y))
    triplets = lmu.get_all_triplets_indices(y)
    torch.testing.assert_close(loss(u, y, triplets), loss(u, y))


@pairwise_loss
def test_a_reference_set_is_the_pairs_of_the_joint_batch_that_cross_over(cls, dtype):
    u, ref = torch.randn(4, BITS, dtype=dtype), torch.randn(3, BITS, dtype=dtype)
    y, ref_y = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2])
    # Terms of single items would see the reference set as well in the joint batch.
    takes = inspect.signature(cls).parameters
    options = {"quantization_weight": 0} if "quantization_weight" in takes else {}
    loss = build(cls, **options)
    joint, joint_y = torch.cat([u, ref]), torch.cat([y, ref_y])
    rows, columns = torch.cartesian_prod(torch.arange(4), torch.arange(4, 7)).T
    same = joint_y[rows] == joint_y[columns]
    crossing = rows[same], columns[same], rows[~same], columns[~same]
    torch.testing.assert_close(
        loss(u, y, ref_emb=ref, ref_labels=ref_y), loss(joint, joint_y, crossing)
    )


@every_loss
def test_bfloat16_autocast_is_computed_in_float32(cls):
    u, loss = torch.randn(6, 48), build(cls, 48)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = loss(u, LABELS)
    torch.testing.assert_close(mixed, loss(u, LABELS), rtol=0, atol=0)


@every_loss
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda loss: loss(torch.randn(BITS), LABELS), r"shape \(B, K\)"),
        (lambda loss: loss(torch.randn(5, BITS), LABELS), "5 items but 6 labels"),
        (
            lambda loss: loss(torch.randn(6, BITS)),
            "cannot both be None|labels are required",
        ),
    ],
)
def test_bad_batches(cls, call, message):
    with pytest.raises(ValueError, match=message):
        call(build(cls))
