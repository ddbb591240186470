import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pml_nmlayer.merging.gini import gini
from pml_nmlayer.merging.graph import RedundancyGraph
from pml_nmlayer.merging.partition import group_signs, partition
from pml_nmlayer.merging.targets import groups_for_targets
from tests import naive
from tests.hamming.test_hamming import random_codes


def fed(codes, batch=7, **kwargs):
    graph = RedundancyGraph(codes.shape[1], **kwargs)
    for part in codes.split(batch):
        graph.update(part)
    return graph


def test_correlation_equals_loop():
    codes = random_codes(40, 6)
    expected = [
        [0.0 if i == j else naive.correlation(codes.tolist(), i, j) for j in range(6)]
        for i in range(6)
    ]
    torch.testing.assert_close(
        fed(codes).correlation(), torch.tensor(expected), rtol=1e-5, atol=1e-6
    )


def test_batches_add_up_to_their_union():
    codes = random_codes(40, 6)
    torch.testing.assert_close(
        fed(codes, batch=7).correlation(), fed(codes, batch=40).correlation()
    )


def test_correlation_knows_negations_and_constant_bits():
    bit = random_codes(50, 1)
    rho = fed(torch.cat([bit, -bit, torch.ones(50, 1)], 1)).correlation()
    expected = torch.tensor([[0.0, -1, 0], [-1, 0, 0], [0, 0, 0]])
    torch.testing.assert_close(rho, expected, rtol=0, atol=1e-5)


def test_memory_forgets_after_every_batch():
    graph = RedundancyGraph(1, memory=10)
    for _ in range(8):
        graph.update(torch.ones(10, 1))
        assert graph.items.item() == pytest.approx(10)
    graph.update(-torch.ones(10, 1))
    # 10 remembered items of +1 and 10 new ones of -1.
    assert graph.mean.item() == pytest.approx(0)
    assert graph.items.item() == pytest.approx(10)


def test_counts_are_exact_in_mixed_precision():
    codes = random_codes(1001, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = fed(codes.bfloat16(), batch=1001)
    assert torch.equal(mixed.pairs, fed(codes, batch=7).pairs)
    assert mixed.items == 1001


def test_nothing_depends_on_when_somebody_asks():
    codes = random_codes(130, 6)
    curious, other = RedundancyGraph(6, memory=50), RedundancyGraph(6, memory=50)
    for step, part in enumerate(codes.split(10)):
        part[0, 0] = torch.nan if step == 4 else part[0, 0]
        curious.update(part, importance=torch.ones(6) if step % 3 == 0 else None)
        other.update(part, importance=torch.ones(6) if step % 3 == 0 else None)
        curious.correlation()
        if step == 9:
            copy = RedundancyGraph(6, memory=50)
            copy.load_state_dict(curious.state_dict())
            curious = copy
    assert other.skipped_batches == 1
    for name, value in other.state_dict().items():
        assert torch.equal(curious.state_dict()[name], value), name


def test_moments_equal_loop():
    codes = random_codes(20, 3)
    rows = codes.tolist()
    graph = fed(codes)
    for i in range(3):
        assert graph.mean[i].item() == pytest.approx(sum(r[i] for r in rows) / 20)
        for j in range(3):
            expected = sum(r[i] * r[j] for r in rows) / 20
            assert graph.moment[i, j].item() == pytest.approx(expected)
    empty = RedundancyGraph(3)
    assert not empty.mean.any()
    assert not empty.moment.any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_an_invalid_batch_is_skipped_and_counted(bad):
    graph = fed(random_codes(20, 4))
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    outputs = random_codes(5, 4)
    outputs[3, 1] = bad
    graph.update(outputs, importance=torch.full((4,), torch.nan))
    assert graph.skipped_batches == 1
    for name, value in graph.state_dict().items():
        if name not in ("skipped_batches", "batches"):
            assert torch.equal(value, before[name]), name


def test_importance_is_averaged_over_scored_items():
    graph = RedundancyGraph(2)
    one = torch.tensor([1.0, 0.0])
    graph.update(random_codes(10, 2), one, scored=torch.tensor(10.0))
    graph.update(random_codes(10, 2), 7 * one, scored=torch.tensor(0.0))
    graph.update(random_codes(30, 2), 5 * one, scored=torch.tensor(30.0))
    torch.testing.assert_close(graph.importance, torch.tensor([4.0, 0.0]))


def test_reset_forgets_everything():
    graph = fed(random_codes(20, 4))
    graph.reset()
    assert not any(buffer.any() for buffer in graph.buffers())


@st.composite
def problems(draw):
    bits = draw(st.integers(2, 24))
    out_bits = draw(st.integers(1, bits))
    max_group = draw(st.integers(-(-bits // out_bits), bits))
    edges = torch.rand(
        bits, bits, generator=torch.Generator().manual_seed(draw(st.integers(0, 999)))
    ).triu(1)
    return edges + edges.T, out_bits, max_group


@given(problems())
def test_groups_partition_the_bits(problem):
    edges, out_bits, max_group = problem
    groups = partition(edges, out_bits, max_group)
    assert groups.dtype == torch.int64
    sizes = groups.bincount()
    assert len(sizes) == out_bits
    assert sizes.min() >= 1
    assert sizes.max() <= max_group
    firsts = [groups.tolist().index(g) for g in range(out_bits)]
    assert firsts == sorted(firsts)


@given(problems(), st.integers(0, 99))
def test_no_group_has_two_anchors(problem, seed):
    edges, out_bits, max_group = problem
    chosen = torch.randperm(len(edges), generator=torch.Generator().manual_seed(seed))
    anchors = torch.zeros(len(edges), dtype=torch.bool)
    anchors[chosen[:out_bits]] = True
    groups = partition(edges, out_bits, max_group, anchors)
    assert sorted(groups[anchors].tolist()) == list(range(out_bits))
    assert groups.bincount().max() <= max_group


def test_the_strongest_edges_merge_first():
    edges = torch.zeros(6, 6)
    for i, j, strength in [(0, 5, 0.9), (1, 2, 0.8), (5, 1, 0.7), (3, 4, 0.6)]:
        edges[i, j] = edges[j, i] = strength
    # (5, 1) would make a group of four.
    assert partition(edges, 3, max_group=3).tolist() == [0, 1, 1, 2, 2, 0]
    assert partition(edges, 2, max_group=4).tolist() == [0, 0, 0, 1, 1, 0]


def test_a_blocked_partition_dissolves_the_smallest_group():
    edges = torch.zeros(6, 6)
    for i, j, strength in [(0, 1, 0.9), (2, 3, 0.8), (4, 5, 0.7), (4, 1, 0.3), (5, 2, 0.2)]:
        edges[i, j] = edges[j, i] = strength
    # Three pairs, and no two of them fit into three places.
    assert partition(edges, 2, max_group=3).tolist() == [0, 0, 1, 1, 0, 1]


def test_signs_follow_the_leading_bit():
    rho = torch.tensor(
        [[0.0, -0.9, -0.2, 0.5], [-0.9, 0, 0.1, 0], [-0.2, 0.1, 0, 0], [0.5, 0, 0, 0]]
    )
    assert group_signs(rho, torch.tensor([0, 0, 0, 1])).tolist() == [1, -1, -1, 1]


@given(st.lists(st.floats(0, 10), min_size=1, max_size=8))
def test_gini_equals_loop(values):
    total = sum(values)
    pairs = sum(abs(a - b) for a in values for b in values)
    expected = pairs / (2 * len(values) * total) if total else 0
    value = gini(torch.tensor(values, dtype=torch.float64))
    assert value == pytest.approx(expected, abs=1e-12)


EDGES = torch.zeros(4, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RedundancyGraph(0), "bits=0"),
        (lambda: RedundancyGraph(4, memory=0), "memory=0"),
        (lambda: partition(EDGES, 5, 2), "must lie in 1..4, got 5"),
        (lambda: partition(EDGES, 0, 2), "must lie in 1..4, got 0"),
        (lambda: partition(EDGES, 1, 3), "use at least 4"),
        (lambda: partition(EDGES * torch.nan, 2, 2), "NaN"),
        (lambda: partition(EDGES, 2, 2, torch.ones(4, dtype=torch.bool)), "4 anchors"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@given(
    st.integers(1, 12).flatmap(lambda k: st.tuples(st.just(k), st.integers(1, k))),
    st.integers(0, 2),
    st.integers(0, 99),
)
def test_groups_for_targets_solve_their_ridge_regressions(sizes, room, seed):
    bits, out_bits = sizes
    bound = -(-bits // out_bits) + room
    codes, targets = random_codes(25, bits, seed), random_codes(25, out_bits, seed + 100)
    moment, agreement = codes.T @ codes / 25, codes.T @ targets / 25
    groups, weights = groups_for_targets(moment, agreement, bound)
    assert groups.bincount(minlength=out_bits).min() >= 1
    assert groups.bincount().max() <= bound
    expected, error = naive.ridge_in_groups(
        moment.tolist(), agreement.tolist(), groups.tolist(), 0.1
    )
    torch.testing.assert_close(weights.tolist(), expected, rtol=1e-4, atol=1e-5)
    # never worse than giving each bit to the target that it agrees with best
    best = agreement.abs().argmax(1)
    if best.unique().numel() == out_bits and best.bincount().max() <= bound:
        _, simple = naive.ridge_in_groups(
            moment.tolist(), agreement.tolist(), best.tolist(), 0.1
        )
        assert error <= simple + 1e-6


def test_bits_move_to_where_the_others_leave_an_error():
    # Bits 0 and 1 are copies, so one of them is enough for target 0, which both tell best.
    moment = torch.eye(4)
    moment[0, 1] = moment[1, 0] = 1
    agreement = torch.tensor([[0.8, 0.3], [0.8, 0.6], [0.5, 0.0], [0.0, 0.3]])
    groups, weights = groups_for_targets(moment, agreement, max_group=3)
    assert groups.tolist() == [0, 1, 0, 1]
    expected, _ = naive.ridge_in_groups(
        moment.tolist(), agreement.tolist(), [0, 1, 0, 1], 0.1
    )
    torch.testing.assert_close(weights.tolist(), expected)


@pytest.mark.parametrize(
    ("targets", "bound", "message"),
    [(4, 3, r"out_bits must lie in 1..3"), (2, 1, "max_group=1 is too small")],
)
def test_bad_targets(targets, bound, message):
    with pytest.raises(ValueError, match=message):
        groups_for_targets(torch.eye(3), torch.zeros(3, targets), bound)
