import pytest
import torch

from pml_nmlayer.hooks import ProgressiveMerging
from pml_nmlayer.layers import ProgressiveHead


def head():
    return ProgressiveHead(6, bits=(12, 6, 3))


def observe(head):
    head.observe(head(torch.randn(20, 6)), torch.arange(20) % 3)


def bits_by_epoch(head, merging, epochs):
    bits = []
    for epoch in range(1, epochs + 1):
        observe(head)
        merging.step(epoch)
        bits.append(head.bits)
    return bits


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"epochs_per_stage": 2}, [12, 6, 6, 3, 3, 3]),
        ({"epochs_per_stage": (1, 3)}, [6, 6, 6, 3, 3, 3]),
        ({"schedule": (2, 5)}, [12, 6, 6, 6, 3, 3]),
        ({"iterations_per_stage": 1}, [6, 3, 3, 3, 3, 3]),
    ],
)
def test_schedules(options, expected):
    h = head()
    assert bits_by_epoch(h, ProgressiveMerging(h, **options), 6) == expected


def test_a_resumed_run_goes_on_from_the_heads_state():
    whole, first = head(), head()
    expected = bits_by_epoch(whole, ProgressiveMerging(whole, epochs_per_stage=2), 6)
    bits = bits_by_epoch(first, ProgressiveMerging(first, epochs_per_stage=2), 3)
    second = head()
    second.load_state_dict(first.state_dict())
    merging = ProgressiveMerging(second, epochs_per_stage=2)
    for epoch in (4, 5, 6):
        observe(second)
        merging.step(epoch)
        bits.append(second.bits)
    assert bits == expected


def test_one_merge_at_a_time():
    h = head()
    observe(h)
    merging = ProgressiveMerging(h, epochs_per_stage=1)
    assert merging.step(9)
    assert h.stage == 1
    observe(h)
    assert merging.step(9)
    assert not merging.step(9)
    assert h.finished


def test_a_head_without_merges():
    h = ProgressiveHead(6, bits=(3,))
    assert not ProgressiveMerging(h, epochs_per_stage=2).step(100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one"),
        ({"epochs_per_stage": 1, "schedule": (1, 2)}, "exactly one"),
        ({"epochs_per_stage": (1, 2, 3)}, "2 merges .* but 3 stages"),
        ({"schedule": (5,)}, "2 merges .* but 1 stages"),
        ({"schedule": (5, 5)}, "one after another"),
        ({"epochs_per_stage": 0}, "one after another"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        ProgressiveMerging(head(), **options)
