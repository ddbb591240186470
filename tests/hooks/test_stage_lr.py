import math

import pytest
import torch
from torch import nn

from pml_nmlayer.hooks import ProgressiveMerging, StageLR
from pml_nmlayer.layers import ProgressiveHead


def optimizer(*rates):
    groups = [{"params": nn.Linear(1, 1).parameters(), "lr": rate} for rate in rates]
    return torch.optim.SGD(groups)


class Head:
    stage = 0


def rates(scheduler, restarts, steps):
    """Learning rate of the first group before each step."""
    head, found = Head(), []
    for step in range(steps):
        if step in restarts:
            head.stage += 1
            scheduler.restart(head)
        found.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def formula(base, factors, periods, end, restarts, steps):
    found, stage, start = [], 0, 0
    for step in range(steps):
        if step in restarts:
            stage, start = stage + 1, step
        shape = 1.0
        if periods[stage] is not None:
            share = min((step - start) / periods[stage], 1)
            shape = end + (1 - end) * (1 + math.cos(math.pi * share)) / 2
        found.append(base * factors[stage] * shape)
    return found


@pytest.mark.parametrize(
    ("factors", "periods", "end"),
    [
        (1.0, None, 0.0),
        ((1, 0.5, 2), None, 0.0),
        (1.0, 4, 0.0),
        ((1, 0.5, 2), (3, None, 5), 0.1),
    ],
)
def test_rates_follow_the_formula(factors, periods, end):
    scheduler = StageLR(optimizer(0.1), factors=factors, periods=periods, end_factor=end)
    as_list = [
        list(value) if isinstance(value, tuple) else [value] * 3
        for value in (factors, periods)
    ]
    expected = formula(0.1, *as_list, end, (4, 9), 15)
    assert rates(scheduler, (4, 9), 15) == pytest.approx(expected)


def test_every_group_keeps_its_own_base():
    scheduler = StageLR(optimizer(0.1, 0.01), factors=(1, 0.5))
    head = Head()
    head.stage = 1
    scheduler.restart(head)
    assert scheduler.get_last_lr() == [0.05, 0.005]
    assert [g["lr"] for g in scheduler.optimizer.param_groups] == [0.05, 0.005]


def test_a_rate_that_is_a_tensor_stays_one():
    parameters = nn.Linear(1, 1).parameters()
    adam = torch.optim.Adam(parameters, lr=torch.tensor(0.1))
    scheduler = StageLR(adam, factors=(1, 0.5))
    head = Head()
    head.stage = 1
    kept = adam.param_groups[0]["lr"]
    scheduler.restart(head)
    assert adam.param_groups[0]["lr"] is kept
    assert kept.item() == pytest.approx(0.05)


def test_it_goes_on_from_its_state():
    whole = rates(StageLR(optimizer(0.1), factors=(1, 0.5), periods=6), (4,), 12)
    first = StageLR(optimizer(0.1), factors=(1, 0.5), periods=6)
    found = rates(first, (4,), 7)
    second = StageLR(optimizer(0.1), factors=(1, 0.5), periods=6)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    found += rates(second, (), 5)
    assert found == pytest.approx(whole)


def test_merging_restarts_it_at_once():
    head = ProgressiveHead(6, bits=(8, 4, 2))
    scheduler = StageLR(torch.optim.SGD(head.parameters(), lr=1.0), periods=2)
    merging = ProgressiveMerging(head, epochs_per_stage=2, on_change=scheduler.restart)
    found = []
    for epoch in range(1, 6):
        head.observe(head(torch.randn(20, 6)), torch.arange(20) % 3)
        scheduler.optimizer.step()
        scheduler.step()
        merging.step(epoch)
        found += scheduler.get_last_lr()
    assert found == pytest.approx([0.5, 1, 0.5, 1, 0.5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": 0}, "factors must be positive, got 0"),
        ({"factors": (1, -1)}, "factors must be positive"),
        ({"factors": ()}, "factors must be positive"),
        ({"periods": 0}, "periods must be at least 1 or None, got 0"),
        ({"periods": (3, 0)}, "periods must be at least 1 or None"),
        ({"end_factor": 2}, r"end_factor must lie in \[0, 1\], got 2"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        StageLR(optimizer(0.1), **options)
