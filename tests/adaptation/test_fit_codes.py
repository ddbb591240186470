import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pml_nmlayer.adaptation import fit_codes, recipe
from pml_nmlayer.adaptation.features import FeatureMap, fit_features
from pml_nmlayer.adaptation.head import AnchorHead
from pml_nmlayer.adaptation.objective import neighbour_distribution_loss
from pml_nmlayer.adaptation.recipe import prepare, started_head
from pml_nmlayer.adaptation.rotation import rotated_components
from pml_nmlayer.adaptation.rows import read_labels
from pml_nmlayer.adaptation.targets import neighbourhood_size
from pml_nmlayer.adaptation.whitening import ClassMoments
from pml_nmlayer.retrieval.head_layers import build, describe

STEPS = 5


def groups(count=200, features=8, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % classes
    x = torch.randn(count, features, generator=generator)
    return x + 3 * F.one_hot(y, features), y


def test_the_loss_is_that_of_a_loop():
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(5, 3, generator=generator)
    e = F.normalize(torch.randn(5, 4, generator=generator), dim=1)
    total = 0.0
    for i in range(5):
        others = [j for j in range(5) if j != i]
        wanted = [math.exp(float(e[i] @ e[j]) / 0.2) for j in others]
        got = [math.exp(float(u[i].tanh() @ u[j].tanh()) / (3 * 0.2)) for j in others]
        for p, q in zip(wanted, got, strict=True):
            total -= p / sum(wanted) * math.log(q / sum(got))
    assert neighbour_distribution_loss(u, e).item() == pytest.approx(total / 5, rel=1e-5)


def test_a_folded_head_gives_the_outputs_of_the_head():
    generator = torch.Generator().manual_seed(2)
    head = AnchorHead(torch.eye(4)[:3], bits=5, num_classes=2)
    for p in head.parameters():
        p.data = torch.randn(p.shape, generator=generator)
    matrix, centre = torch.randn(4, 4, generator=generator), torch.ones(4)
    weight, bias = torch.randn(2, 4, generator=generator), torch.ones(2)
    x = torch.randn(6, 4, generator=generator)
    expected = head((x - centre) @ matrix.T, F.linear(x, weight, bias).softmax(1))
    module = head.fold(FeatureMap(matrix, centre), (weight, bias))
    torch.testing.assert_close(module(x), expected, atol=1e-4, rtol=1e-4)
    copy = build(describe(module))
    copy.load_state_dict(module.state_dict())
    torch.testing.assert_close(copy(x), module(x))


@pytest.mark.parametrize("bits", [2, 4, 9])
def test_rotated_components_have_one_scale(bits):
    outputs = rotated_components(torch.randn(50, 4), bits)
    assert outputs.shape == (50, bits)
    assert outputs.square().mean().item() == pytest.approx(1, rel=1e-4)
    assert rotated_components(torch.ones(5, 4), bits).abs().max() == 0


@pytest.mark.parametrize("labelled", ["none", "all", "half"])
def test_one_seed_gives_the_same_codes_and_leaves_the_generators_alone(labelled):
    x, y = groups()
    y = {"none": None, "all": y, "half": torch.where(torch.arange(200) < 100, y, -1)}[
        labelled
    ]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = fit_codes(x, y, bits=6, random_state=3, steps=STEPS).module(x)
    again = fit_codes(x, y, bits=6, random_state=3, steps=STEPS).module(x)
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("kind", ["random", "equal", "constant column"])
@pytest.mark.parametrize("labelled", [False, True])
def test_few_and_degenerate_items_are_encoded(count, kind, labelled):
    x, y = groups(count)
    if kind == "equal":
        x = torch.ones_like(x)
    elif kind == "constant column":
        x[:, 0] = 5
    module = fit_codes(x, y if labelled else None, bits=12, steps=STEPS).module
    assert module(x).shape == (count, 12)
    assert module(x).isfinite().all()


def test_without_steps_codes_are_those_of_the_closed_form():
    x, y = groups()
    y = torch.where(torch.arange(200) < 100, y, -1)
    lesson = prepare(x, y)
    head = started_head(lesson, lesson.anchors(), bits=6)
    assert lesson.probabilities is not None
    new = lesson.classes < 0  # the probabilities of labelled items are out of fold
    before = head(lesson.z[new], lesson.probabilities[new]).detach()
    module = fit_codes(x, y, bits=6, steps=0).module
    searched = module(x[lesson.rows[new]])
    torch.testing.assert_close(searched, before, atol=1e-4, rtol=1e-4)
    trained = fit_codes(x, y, bits=6, steps=STEPS).module(x[lesson.rows[new]])
    assert not torch.allclose(searched, trained, atol=1e-2)


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11])
def test_any_number_of_steps_will_do(steps):
    x, _ = groups()
    assert fit_codes(x, bits=6, steps=steps).module(x).isfinite().all()


@pytest.mark.parametrize("several", [False, True], ids=["classes", "labels"])
def test_features_need_not_be_whitened(several):
    x, y = groups()
    x = x * torch.arange(1, 9)
    labels = read_labels(torch.stack([y % 2, y < 3], 1) if several else y, len(x))
    plain, _ = fit_features(x, labels, whiten=False)
    scale = 1 / (x - x.mean(0)).norm(dim=1).mean()
    torch.testing.assert_close(plain.matrix, scale * torch.eye(8))
    whitened, _ = fit_features(x, labels)
    torch.testing.assert_close(plain.centre, whitened.centre)
    assert whitened.matrix[0, 0] > 2 * whitened.matrix[7, 7]  # the narrow column gains


def test_wrong_arguments_are_refused():
    x, y = groups()
    for wrong in (x[0], x[:0]):
        with pytest.raises(ValueError, match="shape"):
            fit_codes(wrong, bits=4)
    with pytest.raises(ValueError, match="one class id"):
        fit_codes(x, y[:5], bits=4)
    x[3, 3] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        fit_codes(x, bits=4)


def test_a_trained_head_is_where_learning_starts():
    x, _ = groups()
    generator = torch.Generator().manual_seed(4)
    start = torch.randn(6, 8, generator=generator), torch.randn(6, generator=generator)
    outputs = fit_codes(x, bits=6, start=start, steps=STEPS).module(x)
    agreement = (outputs.sign() == F.linear(x, *start).sign()).float().mean()
    other = fit_codes(x, bits=6, steps=STEPS).module(x)
    assert agreement > 0.7
    assert agreement > (other.sign() == F.linear(x, *start).sign()).float().mean()
    with pytest.raises(ValueError, match="start"):
        fit_codes(x, bits=5, start=start)


def test_features_and_embeddings_are_two_ways_to_write_one_map():
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(9, 4, generator=generator)
    features = FeatureMap(torch.randn(4, 4, generator=generator), torch.ones(4))
    weight, bias = torch.randn(3, 4, generator=generator), torch.ones(3)
    expected = F.linear(x, weight, bias)
    there = F.linear(features(x), *features.of_features(weight, bias))
    torch.testing.assert_close(there, expected, atol=1e-4, rtol=1e-4)
    back = features.of_raw(*features.of_features(weight, bias))
    torch.testing.assert_close(F.linear(x, *back), expected, atol=1e-4, rtol=1e-4)


def test_labelled_items_teach_unless_what_is_searched_belongs_to_other_classes():
    x, y = groups(800, features=12, classes=6)
    same = torch.where(torch.arange(800) % 4 == 0, -1, y)
    other = torch.where(y >= 4, -1, y)
    lesson = prepare(x, same)
    assert len(lesson.rows) == 800
    assert float(lesson.known.float().mean()) > 0.95
    assert torch.equal(lesson.classes, same[lesson.rows])
    lesson = prepare(x, other)
    assert torch.equal(lesson.rows.sort().values, torch.nonzero(other < 0).flatten())
    assert not lesson.known.any()
    few = other.clone()  # too few to be a graph of their own
    few[torch.nonzero(other < 0).flatten()[6:]] = 0
    assert len(prepare(x, few).rows) == 800
    alone = prepare(x, torch.where(y == 0, 0, -1))  # one class tells nothing of others
    assert bool((alone.classes < 0).all())


def test_items_of_known_classes_share_the_directions_of_these():
    x, y = groups(600, features=12, classes=4)
    lesson = prepare(x, torch.where(torch.arange(600) % 3 == 0, -1, y))
    similar = lesson.teacher @ lesson.teacher.T
    torch.testing.assert_close(similar.diagonal(), torch.ones(600))
    own = y[lesson.rows]
    alike = own[:, None] == own
    assert float(similar[alike].mean()) > 0.9 > 0.3 > float(similar[~alike].mean())


def test_a_sample_of_many_items_keeps_labelled_ones(monkeypatch):
    monkeypatch.setattr(recipe, "SAMPLE", 100)
    generator = torch.Generator()
    for labelled, unlabelled, expected in (
        (30, 500, (30, 70)),
        (400, 500, (50, 50)),
        (400, 20, (80, 20)),
        (400, 0, (100, 0)),
        (0, 60, (0, 60)),
    ):
        places = recipe._graph_items(labelled, unlabelled, False, generator)
        kept = int((places < labelled).sum())
        assert (kept, len(places) - kept) == expected
        assert len(places.unique()) == len(places)
        assert int(places.max()) < labelled + unlabelled
    places = recipe._graph_items(30, 50, True, generator)
    assert torch.equal(places, torch.arange(30, 80))
    assert len(recipe._graph_items(30, 0, True, generator)) == 30


def test_the_neighbourhood_follows_the_part_of_a_database_that_is_there():
    moments = ClassMoments.empty(10, 2)
    moments.update(torch.zeros(1000, 2), torch.arange(1000) % 10)
    assert neighbourhood_size(moments, 1000) == (25, 20)
    assert neighbourhood_size(moments, 500) == (25, 16)
    assert neighbourhood_size(moments, 200) == (10, 20)
    assert neighbourhood_size(moments, 20) == (5, 20)
