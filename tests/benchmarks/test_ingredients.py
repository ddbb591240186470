"""What is left out of Hasher is left out, and merges are what their rules say."""

import pytest
import torch
from torch.nn import functional as F

from benchmarks.interface import ENCODINGS, Problem
from benchmarks.methods import METHODS
from benchmarks.methods.ingredients import (
    BEGUN,
    INGREDIENTS,
    RULES,
    Long,
    Merged,
    WithoutOne,
    draw_codewords,
    shortened,
)
from benchmarks.training.seeding import seed_everything
from pml_nmlayer.adaptation import fit_codes, recipe
from pml_nmlayer.adaptation.head import AnchorHead
from pml_nmlayer.adaptation.recipe import prepare, started_head
from pml_nmlayer.classes.served import Readout
from pml_nmlayer.codes import binarize

BITS, LONG = 4, 12


def items(seed=0):
    """Training items of four classes, and a database of four others."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(120) % 4
    x = torch.randn(120, 10, generator=generator) + 3 * F.one_hot(y, 10)
    other = torch.randn(100, 10, generator=generator)
    return x, y, other + 3 * F.one_hot(4 + torch.arange(100) % 4, 10)


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch, one_thread):
    monkeypatch.setattr("benchmarks.methods.ingredients.STEPS", 15)
    monkeypatch.setattr("benchmarks.methods.ingredients.LONG_STEPS", 5)


def without(ingredient):
    method = WithoutOne(BITS, 3, ingredient=ingredient)
    method.fit(*items())
    return method


def marked():
    x, y, database = items()
    return torch.cat([x, database]), torch.cat([y, torch.full((100,), -1)])


def whole(x, y, steps=15):
    return fit_codes(x, y, bits=BITS, random_state=3, steps=steps).module


def test_without_data_and_training_it_is_the_package_without_them():
    x, y, database = items()
    for ingredient, module in {
        "database": whole(x, y),
        "labels": whole(database, None),
        "training": whole(*marked(), steps=0),
    }.items():
        assert torch.equal(without(ingredient).module(x), module(x)), ingredient


def test_each_ingredient_matters_and_codes_stay_finite():
    x, _, _ = items()
    full = whole(*marked())(x)
    for ingredient in INGREDIENTS:
        outputs = without(ingredient).module(x)
        assert outputs.isfinite().all()
        assert not torch.allclose(outputs, full, atol=1e-3), ingredient
    with pytest.raises(ValueError, match="unknown ingredient 'whitenin'; known: whitening"):
        WithoutOne(BITS, 0, ingredient="whitenin")


def test_without_clusters_no_anchors_are_served():
    def read_outs(module):
        return [each for each in module.modules() if isinstance(each, Readout)]

    assert len(read_outs(whole(*marked()))) == 2  # of classes, of anchors
    assert len(read_outs(without("clusters").module)) == 1


def test_without_the_teacher_features_are_compared(monkeypatch):
    seen = []
    monkeypatch.setattr(
        recipe, "train_head", lambda head, z, p, t, **_: seen.append((z, t))
    )
    without("teacher")
    without("clusters")
    (z, alone), (_, diffused) = seen
    torch.testing.assert_close(alone, z / z.norm(dim=1, keepdim=True))
    assert diffused.shape != alone.shape


def test_a_random_codebook_keeps_nothing_but_the_size():
    head = AnchorHead(torch.eye(10), bits=500, num_classes=0)
    head.anchor_words.data = torch.linspace(-2, 3, 5000).view(500, 10)
    size = head.anchor_words.square().mean().sqrt()
    draw_codewords(head, 0)
    torch.testing.assert_close(head.anchor_words.abs(), size.expand(500, 10))
    assert head.anchor_words.sign().mean(0).abs().max() < 0.2


def long_code():
    generator = torch.Generator().manual_seed(5)
    base = torch.randn(220, BITS, generator=generator)
    noise = 0.3 * torch.randn(220, LONG, generator=generator)
    outputs = base.repeat(1, LONG // BITS) + noise  # bits k, k + 4, k + 8 say the same
    return Long(outputs[:120], torch.arange(120) % 4, outputs[120:], BITS, 0)


@pytest.mark.parametrize("name", ["graph_database", "graph_training"])
def test_a_graph_joins_bits_that_say_the_same(name):
    matrix, offset = RULES[name](long_code())
    expected = torch.eye(BITS).repeat(1, LONG // BITS) / 3
    torch.testing.assert_close(matrix, expected)
    assert offset.abs().max() == 0


def test_graphs_look_at_their_own_items():
    long = long_code()
    long.database = long.database[:, torch.randperm(LONG)]
    moved = RULES["graph_database"](long)[0]
    assert not torch.equal(moved != 0, RULES["graph_training"](long)[0] != 0)


def test_controls_prune_or_join_at_random():
    long = long_code()
    pruned, random = RULES["pruned"](long)[0], RULES["random_groups"](long)[0]
    assert (pruned.count_nonzero(1) == 1).all()
    assert (random.count_nonzero(1) == LONG // BITS).all()
    assert not torch.equal(random != 0, RULES["graph_database"](long)[0] != 0)


def test_a_free_rotation_keeps_the_principal_components():
    long = long_code()
    matrix, offset = RULES["free_rotation"](long)
    short = long.database @ matrix.T + offset
    torch.testing.assert_close(short.mean(0), torch.zeros(BITS), atol=1e-4, rtol=0)
    own = torch.linalg.svd(long.database - long.database.mean(0))[2][:BITS]
    torch.testing.assert_close(own.T @ (own @ matrix.T), matrix.T, atol=1e-4, rtol=1e-3)
    gram = matrix @ matrix.T
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(BITS), atol=1e-4, rtol=1e-3)


def test_a_merged_head_gives_merged_outputs():
    lesson = prepare(*marked())
    head = started_head(lesson, lesson.anchors(), bits=LONG)
    head.class_words.data += 0.1
    head.weight.data += 0.1
    matrix, offset = torch.rand(BITS, LONG), torch.rand(BITS)
    short = shortened(head, (matrix, offset), lesson)
    expected = head(lesson.z, lesson.probabilities) @ matrix.T + offset
    expected = expected / expected.square().mean().sqrt()
    found = short(lesson.z, lesson.probabilities)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_every_rule_has_its_lines_right_after_the_merge_and_at_the_end():
    x, y, database = items()
    problem = Problem(10, 4, BITS, epochs=1, decay=0.4, batch_size=16)
    entry = METHODS["hasher_merged"]
    seed_everything(0)
    method = entry.factory(problem, longest=LONG)
    method.fit(x, y, database)
    found = method.encode(x)
    assert set(entry.encodings) <= set(found)
    assert set(entry.encodings) <= set(ENCODINGS)
    for name in RULES:
        begun, ended = found[name + BEGUN], found[name]
        assert begun.shape == ended.shape == (120, BITS)
        real = found[f"{name}.asymmetric"].queries
        assert torch.equal(binarize(real), ended)
        assert not torch.equal(real, found[f"{name}{BEGUN}.asymmetric"].queries)
    assert (
        method.head_parameters()
        == (sum(each.numel() for each in whole(*marked()).state_dict().values()),) * 2
    )
    with pytest.raises(
        ValueError, match="longest must exceed the 4 bits of the code, got 4"
    ):
        Merged(BITS, 0, longest=4)
