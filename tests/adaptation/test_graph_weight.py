"""Class probabilities count in the graph of items, unless they break it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pml_nmlayer.adaptation import fit_codes
from pml_nmlayer.adaptation.graph_weight import CLASS_WEIGHT, graph_weight, joined
from pml_nmlayer.ranking import mean_average_precision


def weak_features(classes=12, each=150, width=64, size=0.7):
    """Items whose class hardly shows in a pair of them, but well in many."""
    generator = torch.Generator().manual_seed(0)
    centres = F.normalize(torch.randn(classes, width, generator=generator), dim=1)
    truth = torch.arange(classes).repeat_interleave(each)
    noise = torch.randn(len(truth), width, generator=generator) / width**0.5
    return F.normalize(size * centres[truth] + 2 * noise, dim=1), truth


def some_labels(truth, classes, share):
    labels = truth.clone()
    generator = torch.Generator().manual_seed(1)
    labels[torch.rand(len(truth), generator=generator) > share] = -1
    labels[truth >= classes] = -1
    return labels


def quality(x, truth, labels, where):
    with torch.no_grad():
        codes = fit_codes(x, labels, bits=24).module(x)
    ones = torch.where(codes >= 0, 1.0, -1.0)
    return mean_average_precision(ones[where], truth[where], ones, truth)


def test_points_are_near_if_features_and_probabilities_are_alike():
    z, p = torch.randn(5, 3), F.normalize(torch.rand(5, 2), dim=1)
    for weight in (0.0, 0.3):
        points = joined(z, p, weight)
        for i in range(5):
            for j in range(5):
                cosine = float(z[i] @ z[j] / z[i].norm() / z[j].norm())
                wanted = (cosine + weight**2 * float(p[i] @ p[j])) / (1 + weight**2)
                assert float(points[i] @ points[j]) == pytest.approx(wanted, abs=1e-5)
    assert torch.equal(joined(z, None), F.normalize(z, dim=1))


def test_probabilities_that_part_classes_break_the_graph():
    x, truth = weak_features()
    classes = some_labels(truth, 12, 0.5)
    generator = torch.Generator().manual_seed(2)
    elsewhere = 8 * x @ torch.randn(x.shape[1], 12, generator=generator)  # parts classes
    shape = (15, 24)
    assert graph_weight(x, elsewhere, classes, shape, seed=0) == 0
    right = 8 * F.one_hot(truth, 12).float()
    assert graph_weight(x, right, classes, shape, seed=0) == CLASS_WEIGHT


def test_too_few_classes_tell_nothing():
    x, truth = weak_features(classes=3)
    assert graph_weight(x, torch.zeros(len(x), 3), truth, (15, 16), seed=0) == 0
    x, truth = weak_features(classes=4)
    few = torch.full_like(truth, -1)
    few[::150] = truth[::150]  # one item a class
    assert graph_weight(x, torch.zeros(len(x), 4), few, (15, 16), seed=0) == 0


def test_labels_of_some_classes_leave_the_others_as_they_are():
    x, truth = weak_features()
    others = truth >= 8
    labelled = quality(x, truth, some_labels(truth, 8, 0.15), others)
    without = quality(x, truth, None, others)
    assert without > 0.5
    assert labelled > without - 0.05


def test_probabilities_are_not_drawn_from_the_state_of_the_process():
    x, truth = weak_features(classes=6, each=40)
    before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    graph_weight(x, torch.zeros(len(x), 6), truth, (10, 16), seed=0)
    assert torch.equal(before[0], torch.get_rng_state())
    after = np.random.get_state()  # noqa: NPY002
    assert np.array_equal(before[1][1], after[1])
