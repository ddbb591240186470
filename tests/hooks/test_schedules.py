import itertools
import math

import pytest
import torch

from pml_nmlayer.hooks import ProgressiveMerging, WhenPlateau, WhenSettled
from pml_nmlayer.hooks.schedules import cycle_times, strongest_edges
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.merging.scorers import Correlation

LABELS = torch.arange(20) % 3


def make_head(**kwargs):
    torch.manual_seed(0)
    return ProgressiveHead(6, bits=(12, 6, 3), **kwargs)


def observe(head, seed=None):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    head.observe(head(torch.randn(20, 6, generator=generator)), LABELS)


# A plateau


def merges_after(values, **options):
    """Epochs after which a head merges, given the metric of each epoch."""
    head = make_head()
    merging = ProgressiveMerging(head, schedule=WhenPlateau(**options))
    epochs = []
    for epoch, value in enumerate(values, start=1):
        observe(head)
        if merging.step(epoch, metric=value):
            epochs.append(epoch)
    return epochs


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        # better, better, then two epochs without; the second stage starts from nothing
        ([0.1, 0.5, 0.5, 0.4, 0.3, 0.2, 0.1], {"patience": 2}, [4, 7]),
        ([0.5, 0.4, 0.3, 0.4, 0.5], {"patience": 2, "smaller_is_better": True}, [5]),
        ([0.5, 0.55, 0.6, 0.65], {"patience": 2, "min_delta": 0.2}, [3]),
        ([0.1, 0.2, 0.3, 0.4, 0.5], {"patience": 2, "max_epochs": 2}, [2, 4]),
        ([0.5, 0.4, 0.3, 0.2], {"patience": 1, "min_epochs": 4}, [4]),
        ([math.nan] * 4, {"patience": 2}, [2, 4]),
    ],
)
def test_a_plateau_merges(values, options, expected):
    assert merges_after(values, **options) == expected


def test_a_plateau_reads_the_metric_from_the_trainer():
    class Trainer:
        epoch = 0
        accuracy = 0.5

    head, trainer = make_head(), Trainer()
    schedule = WhenPlateau(patience=2, metric=lambda trainer: trainer.accuracy)
    merging = ProgressiveMerging(head, schedule=schedule)
    for trainer.epoch in (1, 2, 3):
        observe(head)
        merging.end_of_epoch_hook(trainer)
        merging.end_of_iteration_hook(trainer)  # has no part in it
        assert head.stage == (trainer.epoch == 3)


# A settled graph


def test_strongest_edges_are_those_of_the_graph():
    head = make_head(scorer=Correlation("equal"))
    assert strongest_edges(head) == []
    observe(head)
    rho = head.layers[0].graph.correlation().abs()
    pairs = sorted(
        ((i, j) for i in range(12) for j in range(i + 1, 12)),
        key=lambda pair: -rho[pair].item(),
    )
    assert strongest_edges(head) == sorted(12 * i + j for i, j in pairs[:6])


def test_a_settled_graph_merges():
    head = make_head(scorer=Correlation("equal"), memory=20)
    merging = ProgressiveMerging(head, schedule=WhenSettled(window=3))
    merged_after = 0
    for epoch in range(1, 30):
        observe(head, seed=min(epoch, 8))  # the same batch from epoch 8 on
        if merging.step(epoch):
            merged_after = epoch
            break
    assert merged_after >= 11  # three epochs in a row like the one before


def test_settling_counts_epochs_in_a_row():
    head = make_head(scorer=Correlation("equal"))
    schedule = WhenSettled(window=2, overlap=1.0)
    answers = []
    for epoch, seed in enumerate([1, 1, 2, 2, 2], start=1):
        head.layers[0].graph.reset()
        observe(head, seed)
        answers.append(schedule.is_due(head, epoch, None))
    assert answers == [False, False, False, False, True]


def test_settled_waits_and_hurries():
    head = make_head()
    slow = WhenSettled(window=1, min_epochs=5)
    fast = WhenSettled(window=50, max_epochs=3)
    for epoch in range(1, 6):
        observe(head, seed=0)
        assert slow.is_due(head, epoch, None) == (epoch == 5)
        assert fast.is_due(head, epoch, None) == (epoch >= 3)


# Cycles


def test_cycles_alternate_active_and_frozen_phases():
    head = make_head()
    merging = ProgressiveMerging(head, epochs_per_stage=6, cycles=2)
    bits = []
    for epoch in range(1, 14):
        observe(head)
        merging.step(epoch)
        bits.append(head.bits)
    assert bits == [12, 6, 6, 12, 12, 6, 6, 3, 3, 6, 6, 3, 3]
    assert (head.finished, head.changes) == (True, 6)


def test_a_resumed_run_is_in_the_same_cycle():
    expected, bits = [], []
    for resumed in (False, True):
        head = make_head()
        merging = ProgressiveMerging(head, epochs_per_stage=6, cycles=2)
        for epoch in range(1, 14):
            if resumed and epoch in (3, 5, 9):
                state, schedule = head.state_dict(), merging.state_dict()
                head = make_head()
                head.load_state_dict(state)
                merging = ProgressiveMerging(head, epochs_per_stage=6, cycles=2)
                merging.load_state_dict(schedule)
            observe(head)
            merging.step(epoch)
            (bits if resumed else expected).append(head.bits)
    assert bits == expected


def test_parts_of_a_stage_are_nearly_equal():
    for length in range(5, 30):
        times = [0, *cycle_times([length], cycles=3)]
        parts = [b - a for a, b in itertools.pairwise(times)]
        assert len(parts) == 5
        assert max(parts) - min(parts) <= 1


# State


@pytest.mark.parametrize(
    "schedule",
    [
        lambda: WhenPlateau(patience=2),
        lambda: WhenSettled(window=2, overlap=0.5),
        lambda: WhenSettled(window=99, max_epochs=3),
    ],
)
def test_a_schedule_goes_on_from_its_state(schedule):
    def run(resume):
        head = make_head()
        merging = ProgressiveMerging(head, schedule=schedule())
        bits = []
        for epoch in range(1, 12):
            if resume:
                state = merging.state_dict()
                merging = ProgressiveMerging(head, schedule=schedule())
                merging.load_state_dict(state)
            observe(head, seed=epoch)
            metric = 1 / (1 + abs(epoch - 3)) if merging.needs_metric else None
            merging.step(epoch, metric=metric)
            bits.append(head.bits)
        return bits

    assert run(resume=True) == run(resume=False)
    assert len(set(run(resume=False))) > 1


def test_on_change_is_told_of_every_change():
    head, told = make_head(), []
    merging = ProgressiveMerging(
        head, epochs_per_stage=3, cycles=2, on_change=lambda h: told.append(h.bits)
    )
    for epoch in range(1, 8):
        observe(head)
        merging.step(epoch)
    assert told == [6, 12, 6, 3, 6, 3]


def merging(**options):
    return ProgressiveMerging(make_head(), **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: WhenPlateau(patience=0), "patience must be at least 1, got 0"),
        (lambda: WhenPlateau(min_delta=-1), "min_delta must be >= 0"),
        (lambda: WhenPlateau(min_epochs=0), "min_epochs must be at least 1"),
        (lambda: WhenPlateau(min_epochs=3, max_epochs=2), "at least min_epochs=3, got 2"),
        (lambda: WhenSettled(window=0), "window must be at least 1"),
        (lambda: WhenSettled(overlap=0), r"overlap must lie in \(0, 1\], got 0"),
        (lambda: merging(schedule=WhenSettled(), cycles=2), "fixed lengths"),
        (lambda: merging(epochs_per_stage=2, cycles=2), "2 cycles need .* at least 3"),
        (lambda: merging(epochs_per_stage=2, cycles=0), "cycles must be at least 1"),
        (lambda: merging(schedule=WhenPlateau()).step(1), r"needs step\(epoch, metric"),
        (lambda: merging(epochs_per_stage=2).step(1, 0.5), "FixedTimes takes no metric"),
        (
            lambda: WhenPlateau().measure(None),
            "needs metric=, a function of the trainer",
        ),
        (
            lambda: merging(epochs_per_stage=2).load_state_dict(
                merging(epochs_per_stage=3).state_dict()
            ),
            r"after \[3, 6\], this schedule has \[2, 4\]",
        ),
        (
            lambda: merging(epochs_per_stage=2).load_state_dict(
                merging(schedule=WhenSettled()).state_dict()
            ),
            "saved with schedule 'WhenSettled', here it is 'FixedTimes'",
        ),
        (
            lambda: merging(epochs_per_stage=3).load_state_dict(
                merging(epochs_per_stage=3, cycles=2).state_dict()
            ),
            "saved with cycles 2, here it is 1",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
