import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pml_nmlayer.layers import NMLayer
from pml_nmlayer.merging.scorers import SCORERS, Correlation
from tests import naive
from tests.hamming.test_hamming import random_codes, random_labels


def agreement_of(layer, codes, seed=0):
    """E[b tᵀ] with random targets, for the scorer that cannot do without."""
    if not layer.scorer.needs_codewords:
        return None
    return codes.T @ random_codes(len(codes), layer.target_bits, seed + 1000) / len(codes)


def frozen_layer(in_bits=12, out_bits=5, scorer="drop_one", seed=0, **kwargs):
    layer = NMLayer(in_bits, out_bits, scorer=scorer, **kwargs)
    codes = random_codes(40, in_bits, seed)
    layer.observe(codes, random_labels(40, "class ids", seed))
    layer.freeze(agreement_of(layer, codes, seed))
    return layer


def test_active_phase_passes_everything_on():
    layer = NMLayer(6, 3)
    u = torch.randn(4, 6)
    assert layer.phase == "active"
    assert layer.out_bits == 6
    assert layer(u) is u
    assert layer.groups.tolist() == list(range(6))


@pytest.mark.parametrize("scorer", SCORERS)
def test_frozen_phase_equals_loop(scorer, dtype, device):
    layer = frozen_layer(scorer=scorer).to(device)
    assert layer.phase == "frozen"
    assert layer.out_bits == 5
    u = torch.randn(3, 12, dtype=dtype, device=device)
    expected = naive.merged(u.tolist(), layer.groups.tolist(), layer.weights.tolist())
    out = layer(u)
    assert out.dtype == dtype
    torch.testing.assert_close(out.tolist(), expected, rtol=1e-5, atol=1e-6)


@given(
    st.integers(2, 30).flatmap(lambda k: st.tuples(st.just(k), st.integers(1, k - 1))),
    st.sampled_from(sorted(SCORERS)),
    st.integers(0, 99),
)
def test_groups_partition_the_bits_and_weights_sum_to_one(sizes, scorer, seed):
    layer = frozen_layer(*sizes, scorer=scorer, seed=seed)
    assert sorted(layer.groups.unique().tolist()) == list(range(sizes[1]))
    assert layer.groups.bincount().max() <= layer.max_group
    torch.testing.assert_close(layer.merge_matrix().abs().sum(1), torch.ones(sizes[1]))


@pytest.mark.parametrize("scorer", sorted(set(SCORERS) - {"prune"}))
def test_gradients_reach_every_neuron_of_a_group(scorer):
    layer = frozen_layer(scorer=scorer)
    u = torch.randn(6, 12, requires_grad=True)
    layer(u).square().sum().backward()
    assert (u.grad.abs().sum(0) > 0).all()


def test_a_group_moves_half_as_fast_as_a_single_neuron():
    a, b = random_codes(60, 1, 1), random_codes(60, 1, 2)
    layer = NMLayer(4, 2, scorer=Correlation(weighting="equal"))
    layer.observe(torch.cat([a, b, -a, b], 1))
    layer.freeze()
    u = torch.zeros(1, 4, requires_grad=True)
    layer(u).sum().backward()
    step = layer(u.grad)  # how far one unit of SGD moves each output
    torch.testing.assert_close(step, torch.tensor([[0.5, 0.5]]))


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("training", [True, False])
def test_the_derivative_is_exact(scorer, training):
    layer = frozen_layer(scorer=scorer).double().train(training)
    u = torch.randn(3, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, u)


def test_state_dict_round_trip_in_each_phase():
    for phase in ("active", "frozen"):
        layer = NMLayer(12, 5)
        layer.observe(random_codes(40, 12), random_labels(40, "class ids"))
        if phase == "frozen":
            layer.freeze()
        for other in (NMLayer(12, 5), frozen_layer(scorer="correlation", seed=3)):
            other.load_state_dict(layer.state_dict(), strict=True)
            assert other.phase == phase
            u = torch.randn(4, 12)
            assert torch.equal(other(u), layer(u))
            assert copy.deepcopy(other).phase == phase
        # The graph goes on where it was.
        for each in (layer, other):
            each.observe(random_codes(40, 12, 8), random_labels(40, "class ids", 8))
        assert torch.equal(other.graph.moment, layer.graph.moment)


def test_shapes_of_the_state_never_change():
    layer = NMLayer(12, 5)
    shapes = {name: value.shape for name, value in layer.state_dict().items()}
    layer.observe(random_codes(40, 12), random_labels(40, "class ids"))
    layer.freeze()
    assert {name: value.shape for name, value in layer.state_dict().items()} == shapes


def test_activate_starts_over():
    layer = frozen_layer()
    layer.activate()
    u = torch.randn(4, 12)
    assert layer.phase == "active"
    assert layer(u) is u
    with pytest.raises(RuntimeError, match="no usable batch"):
        layer.freeze()


def test_a_frozen_layer_does_not_observe():
    layer = frozen_layer()
    before = layer.graph.moment.clone()
    layer.observe(random_codes(9, 12, 5), random_labels(9, "class ids"))
    assert torch.equal(layer.graph.moment, before)


def test_labels_are_not_needed_for_equal_weights():
    layer = NMLayer(12, 5, scorer=Correlation(weighting="equal"))
    layer.observe(random_codes(40, 12))
    layer.freeze()
    assert layer.phase == "frozen"


def test_observing_has_no_gradient_and_takes_real_outputs():
    u = torch.randn(20, 12, requires_grad=True)
    labels = random_labels(20, "class ids")
    layer, other = NMLayer(12, 5), NMLayer(12, 5)
    layer.observe(u, labels)
    other.observe(torch.where(u.detach() >= 0, 1.0, -1.0), labels)
    assert not layer.graph.moment.requires_grad
    for name, value in layer.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_and_inf_do_not_poison_the_graph(bad):
    layer = NMLayer(12, 5)
    codes, labels = random_codes(20, 12), random_labels(20, "class ids")
    layer.observe(codes, labels)
    before = layer.graph.moment.clone()
    u = torch.randn(20, 12)
    u[3, 4] = bad
    layer.observe(u, labels)
    assert torch.equal(layer.graph.moment, before)
    assert layer.graph.skipped_batches == 1


def test_only_nan_batches_leave_nothing_to_merge():
    layer = NMLayer(4, 2)
    layer.observe(torch.full((8, 4), torch.nan), torch.arange(8) % 2)
    with pytest.raises(RuntimeError, match="inf so far: 1"):
        layer.freeze()


@pytest.mark.parametrize("labels", [[], [0], [0, 0, 0, 0]])
def test_small_and_one_class_batches(labels):
    layer = NMLayer(6, 3)
    layer.observe(random_codes(len(labels), 6), torch.tensor(labels, dtype=torch.long))
    assert torch.isfinite(layer.graph.moment).all()
    assert layer.graph.items == len(labels)
    assert layer.graph.scored_items == 0


def test_constant_and_identical_bits_merge_without_nan():
    codes = random_codes(30, 1).repeat(1, 6)
    codes[:, 0] = 1
    for scorer in SCORERS:
        layer = NMLayer(6, 1, scorer=scorer)
        layer.observe(codes, random_labels(30, "class ids"))
        layer.freeze(agreement_of(layer, codes))
        assert torch.isfinite(layer(torch.randn(2, 6))).all()


@pytest.mark.parametrize("scorer", SCORERS)
def test_lift_equals_loop_and_is_an_isometry(scorer, dtype, device):
    layer = frozen_layer(scorer=scorer, max_group=6).to(device)
    v = layer(torch.randn(7, 12, dtype=dtype, device=device))
    lifted = layer.lift(v)
    expected = naive.lifted(v.tolist(), layer.groups.tolist(), layer.weights.tolist())
    torch.testing.assert_close(lifted.cpu(), torch.tensor(expected, dtype=dtype))
    torch.testing.assert_close(lifted @ lifted.T, v @ v.T)
    torch.testing.assert_close(layer.unlift(lifted), v)


def test_vectors_of_a_loss_are_merged_like_the_bits():
    layer = frozen_layer(scorer="drop_one", max_group=6)
    v, vectors = torch.randn(7, 5), torch.randn(3, 12)
    merged = layer(vectors) / layer.merge_matrix().norm(dim=1)
    torch.testing.assert_close(layer.lift(v) @ vectors.T, v @ merged.T)


def test_a_bit_that_was_pruned_has_no_part_in_what_is_lifted():
    layer = frozen_layer(scorer="prune", max_group=6)
    kept = layer.weights != 0
    assert kept.sum() == 5
    u = torch.randn(7, 12)
    torch.testing.assert_close(layer.lift(layer(u)), u * kept)


def test_a_negated_bit_points_the_same_way_lifted_as_before_the_merge():
    a, b = random_codes(60, 1, 1), random_codes(60, 1, 2)
    layer = NMLayer(4, 2, scorer=Correlation(weighting="equal"))
    codes = torch.cat([a, b, -a, b], 1)
    layer.observe(codes)
    layer.freeze()
    lifted = layer.lift(layer(codes))
    torch.testing.assert_close(lifted * 2**0.5, codes)  # groups of two
    torch.testing.assert_close(layer.unlift(lifted), layer(codes))


def test_autocast():
    layer = frozen_layer()
    u = torch.randn(4, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(
            layer(u).float(), layer(u.double()).float(), rtol=0.02, atol=0.02
        )
        layer.activate()
        layer.observe(u.bfloat16(), torch.arange(4) % 2)
    other = NMLayer(12, 5, scorer="drop_one")
    other.observe(u, torch.arange(4) % 2)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def without_agreement():
    layer = NMLayer(8, 3, scorer="codewords")
    layer.observe(random_codes(9, 8))
    layer.freeze()


def test_a_plan_is_what_freeze_would_do_and_does_nothing_itself():
    for scorer in SCORERS:
        layer = NMLayer(12, 5, scorer=scorer)
        codes = random_codes(40, 12)
        layer.observe(codes, random_labels(40, "class ids"))
        before = {name: value.clone() for name, value in layer.state_dict().items()}
        plan = layer.plan(agreement_of(layer, codes))
        for name, value in before.items():
            assert torch.equal(layer.state_dict()[name], value), name
        other = copy.deepcopy(layer)
        layer.freeze(plan=plan)
        other.freeze(agreement_of(layer, codes))
        assert layer.phase == other.phase == "frozen"
        for name, value in layer.state_dict().items():
            assert torch.equal(other.state_dict()[name], value), name
        assert torch.equal(layer.merge_matrix(), plan.matrix(5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NMLayer(8, 8), ValueError, "1 <= out_bits < in_bits"),
        (lambda: NMLayer(8, 9), ValueError, "1 <= out_bits < in_bits"),
        (lambda: NMLayer(8, 0), ValueError, "1 <= out_bits < in_bits"),
        (lambda: NMLayer(8, 3, max_group=2), ValueError, "use at least 3"),
        (lambda: NMLayer(8, 3, scorer="?"), ValueError, "scorer must be one of"),
        (lambda: NMLayer(8, 3)(torch.randn(2, 7)), ValueError, r"shape \(B, 8\)"),
        (lambda: NMLayer(8, 3)(torch.randn(8)), ValueError, r"shape \(B, 8\)"),
        (
            lambda: NMLayer(8, 3).observe(torch.randn(2, 8), torch.zeros(3)),
            ValueError,
            "2 items but 3 labels",
        ),
        (
            lambda: NMLayer(8, 3, scorer="prune").observe(torch.randn(2, 8)),
            ValueError,
            "needs labels",
        ),
        (lambda: NMLayer(8, 3).freeze(), RuntimeError, "no usable batch"),
        (lambda: frozen_layer().freeze(), RuntimeError, "frozen already"),
        (lambda: frozen_layer().plan(), RuntimeError, "frozen already"),
        (lambda: NMLayer(8, 3).plan(), RuntimeError, "no usable batch"),
        (
            lambda: without_agreement(),
            RuntimeError,
            r"towards codewords: pass freeze\(agreement=",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
