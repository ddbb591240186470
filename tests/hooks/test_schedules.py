import math

import pytest
import torch

from pml_nmlayer.hooks import ProgressiveMerging, WhenPlateau
from pml_nmlayer.layers import ProgressiveHead

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


# State


@pytest.mark.parametrize(
    "schedule",
    [
        lambda: WhenPlateau(patience=2),
        lambda: WhenPlateau(patience=9, max_epochs=3),
        lambda: WhenPlateau(patience=1, min_epochs=4),
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


def test_on_change_is_told_of_every_merge():
    head, told = make_head(), []
    merging = ProgressiveMerging(
        head, epochs_per_stage=3, on_change=lambda h: told.append((h.bits, h.stage))
    )
    for epoch in range(1, 8):
        observe(head)
        merging.step(epoch)
    assert told == [(6, 1), (3, 2)]


def test_a_plateau_goes_on_from_a_state_of_version_0_1_0():
    """Which counted changes of phase, of which a head without cycles has one a merge."""
    head = make_head()
    observe(head)
    head.merge_next()
    schedule = WhenPlateau(patience=2)
    state = {"best": 0.5, "age": 1, "changes": 1, "start": 3, "lasted": 2}
    merging = ProgressiveMerging(head, schedule=schedule)
    merging.load_state_dict({"schedule": "WhenPlateau", "state": state, "cycles": 1})
    observe(head)
    assert merging.step(6, metric=0.4)  # the second epoch without a better value
    assert merging.state_dict()["state"]["merges"] == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: WhenPlateau(3),
        lambda: ProgressiveMerging(make_head(), 2),
        lambda: ProgressiveMerging(make_head(), epochs_per_stage=3, cycles=2),
    ],
)
def test_options_have_names(call):
    with pytest.raises(TypeError, match="argument"):
        call()


def merging(**options):
    return ProgressiveMerging(make_head(), **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: WhenPlateau(patience=0), "patience must be at least 1, got 0"),
        (lambda: WhenPlateau(min_delta=-1), "min_delta must be >= 0"),
        (lambda: WhenPlateau(min_epochs=0), "min_epochs must be at least 1"),
        (lambda: WhenPlateau(min_epochs=3, max_epochs=2), "at least min_epochs=3, got 2"),
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
                merging(schedule=WhenPlateau()).state_dict()
            ),
            "saved with schedule 'WhenPlateau', here it is 'FixedTimes'",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
