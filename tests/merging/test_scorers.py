import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import one_hot

from pml_nmlayer.codes import raw_sign
from pml_nmlayer.layers import NMLayer
from pml_nmlayer.merging.graph import RedundancyGraph
from pml_nmlayer.merging.pair_likelihood import drop_one_importance
from pml_nmlayer.merging.scorers import (
    SCORERS,
    Correlation,
    DropOne,
    FunctionScorer,
    Random,
    Scorer,
    make_scorer,
)
from tests import naive
from tests.hamming.test_hamming import random_codes, random_labels


def observed(scorer, codes, labels):
    graph = RedundancyGraph(codes.shape[1])
    seen = scorer.measure(codes, labels)
    graph.update(codes, seen.importance, seen.redundancy, seen.scored)
    return graph


@pytest.mark.parametrize("options", [[], [True]], ids=str)
@pytest.mark.parametrize("kind", ["class ids", "multi-hot"])
@given(seed=st.integers(0, 999))
def test_the_closed_form_equals_the_loop(options, kind, seed):
    codes, labels = random_codes(7, 5, seed), random_labels(7, kind, seed)
    found, items = drop_one_importance(codes, labels, *options)
    expected = naive.drop_one_importance(codes.tolist(), labels.tolist(), *options)
    if expected is None:
        assert items == 0
        assert not found.any()
    else:
        assert items == 7
        torch.testing.assert_close(found.tolist(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("labels", [[], [0], [0, 0, 0], [0, 1, 2]])
def test_nothing_is_learned_without_both_kinds_of_pairs(labels):
    labels = torch.tensor(labels, dtype=torch.long)
    v, items = drop_one_importance(random_codes(len(labels), 4), labels)
    assert items == 0
    assert not v.any()


def test_a_scorer_sees_as_many_items_as_often_as_it_wants():
    seen = []

    class Watching(Scorer):
        def measure(self, codes, labels):
            seen.append((len(codes), labels))
            return super().measure(codes, labels)

        def edges(self, graph, out_bits):
            return torch.ones_like(graph.moment), None

    layer = NMLayer(4, 2, scorer=Watching(every_n_steps=3, max_items=5))
    for step in range(7):
        layer.observe(random_codes(9, 4, step))
    assert seen == [(5, None)] * 3
    assert layer.graph.items == 63
    resumed = NMLayer(4, 2, scorer=Watching(every_n_steps=3, max_items=5))
    resumed.load_state_dict(layer.state_dict())
    for step in range(3):
        resumed.observe(random_codes(9, 4, step))
    assert len(seen) == 4  # the seventh step was one, the tenth is the next


@pytest.mark.parametrize(
    ("every", "count", "looked_at"),
    [(16, 8, [0, 1, 8, 16]), (1, 8, range(20)), (5, 4, [0, 1, 4, 5, 8, 10, 12, 15, 16])],
)
def test_the_graph_is_that_of_the_batches_it_looks_at(every, count, looked_at):
    scorer = Correlation(every_n_steps=every)
    scorer.count_first, scorer.count_every_n_steps = 2, count
    layer, graph = NMLayer(6, 3, scorer=scorer), RedundancyGraph(6)
    for step in range(20):
        codes, labels = random_codes(9, 6, step), random_labels(9, "class ids", step)
        if step in (4, 7, 8):
            codes[3, 2] = torch.nan
        if step in looked_at:
            measured = step % every == 0
            graph.update(
                codes, *(scorer.measure(raw_sign(codes), labels) if measured else ())
            )
        layer.observe(codes, labels)
        resumed = NMLayer(6, 3, scorer=scorer)  # after any step
        resumed.load_state_dict(layer.state_dict())
        layer = resumed
    assert layer.graph.seen_batches == 20
    assert layer.graph.skipped_batches == len({4, 7, 8} & set(looked_at))
    for name, value in graph.state_dict().items():
        if name != "batches":
            assert torch.equal(layer.graph.state_dict()[name], value), name


def test_the_informative_bit_is_the_important_one():
    labels = torch.arange(40) % 2
    codes = random_codes(40, 5)
    codes[:, 3] = labels * 2.0 - 1
    v, _ = drop_one_importance(codes, labels)
    assert v.argmax() == 3
    assert v[3] > 0


def test_with_many_classes_only_a_threshold_shows_what_bits_are_worth():
    labels = torch.arange(240) % 30
    # Each class differs in two bits from what all have in common, so all pairs have θ > 0.
    pairs = torch.combinations(torch.arange(12))[:30]
    codes = (1 - 2.0 * one_hot(pairs, 12).sum(1))[labels]
    plain, _ = drop_one_importance(codes, labels)
    assert (plain < 0).all()
    v, items = drop_one_importance(codes, labels, threshold=True)
    assert items == 240
    assert (v > 0).all()
    labels = labels[:1].expand(240)  # one class: nothing to tell
    assert not drop_one_importance(codes, labels, threshold=True)[0].any()


@pytest.mark.parametrize("name", SCORERS)
@given(seed=st.integers(0, 99), out_bits=st.integers(1, 7))
def test_every_scorer_partitions_with_unit_weights(name, seed, out_bits):
    codes, labels = random_codes(30, 8, seed), random_labels(30, "class ids", seed)
    scorer = make_scorer(name)
    graph = observed(scorer, codes, labels)
    bound = -(-8 // out_bits)
    more = ()
    if scorer.needs_codewords:
        targets = random_codes(30, out_bits, seed + 100)
        more = (codes.T @ targets / 30,)
    groups, weights = scorer.group(graph, out_bits, bound, *more)
    assert groups.bincount(minlength=out_bits).min() >= 1
    assert groups.bincount().max() <= bound
    total = torch.zeros(out_bits).index_add_(0, groups, weights.abs())
    torch.testing.assert_close(total, torch.ones(out_bits))


def test_correlation_merges_a_bit_with_its_negation():
    a, b = random_codes(60, 1, 1), random_codes(60, 1, 2)
    codes = torch.cat([a, b, -a, b], 1)
    scorer = Correlation(weighting="equal")
    groups, weights = scorer.group(observed(scorer, codes, None), 2, 2)
    assert groups.tolist() == [0, 1, 0, 1]
    assert weights.tolist() == [0.5, 0.5, -0.5, 0.5]


def graph_with_importance(v):
    graph = RedundancyGraph(len(v))
    graph.importance.copy_(torch.tensor(v))
    return graph


def test_drop_one_joins_the_extremes():
    groups, _ = DropOne().group(graph_with_importance([0.4, 0.1, 0.9, 0.2]), 2, 2)
    assert groups.tolist() == [0, 1, 1, 0]  # 0.9 with 0.1, 0.4 with 0.2


def test_prune_keeps_the_most_important_bits_alone():
    graph = graph_with_importance([0.4, 0.1, 0.9, 0.2])
    _, weights = make_scorer("prune").group(graph, 2, 2)
    assert weights.tolist() == [1, 0, 1, 0]


def test_random_depends_on_the_seed_alone():
    graph = RedundancyGraph(12)
    first = Random(seed=1).group(graph, 6, 2)[0]
    torch.rand(3)
    assert torch.equal(Random(seed=1).group(graph, 6, 2)[0], first)
    assert not torch.equal(Random(seed=2).group(graph, 6, 2)[0], first)


def test_importance_weights_without_importance_are_equal():
    graph = RedundancyGraph(4)
    _, weights = Random(weighting="importance").group(graph, 2, 2)
    torch.testing.assert_close(weights.abs(), torch.full((4,), 0.5))


def test_importance_is_measured_where_it_is_used():
    codes, labels = random_codes(20, 4), random_labels(20, "class ids")
    for scorer, used in [
        (Correlation(weighting="equal"), False),
        (Correlation(), True),
        (DropOne(), True),
        (make_scorer("prune"), True),
        (Random(), False),
    ]:
        assert scorer.needs_labels == used
        measured = scorer.measure(codes, labels).importance is not None
        assert measured == used


def test_merging_towards_codewords_finds_who_tells_them():
    # Bits 0 and 3 tell one target, bit 2 the negation of the other, bit 1 nothing.
    targets = random_codes(64, 2, 1)
    codes = torch.stack(
        [targets[:, 0], random_codes(64, 1, 2)[:, 0], -targets[:, 1], targets[:, 0]], 1
    )
    scorer = make_scorer("codewords")
    graph = observed(scorer, codes, None)
    groups, weights = scorer.group(graph, 2, 2, codes.T @ targets / 64)
    assert groups.tolist() == [0, 1, 1, 0]
    torch.testing.assert_close(weights[[0, 3]], torch.tensor([0.5, 0.5]))
    assert weights[2] < -0.8
    merged = codes @ (weights[:, None] * torch.nn.functional.one_hot(groups))
    assert torch.equal(merged.sign(), targets)


def test_bits_that_know_nothing_of_codewords_weigh_the_same():
    scorer = make_scorer("codewords")
    graph = observed(scorer, random_codes(20, 6), None)
    _, weights = scorer.group(graph, 2, 3, torch.zeros(6, 2))
    torch.testing.assert_close(weights.abs(), torch.full((6,), 1 / 3))


def test_a_function_is_a_scorer():
    def likes_neighbours(codes, labels):
        i = torch.arange(codes.shape[1])
        return -(i[:, None] - i[None, :]).abs().float()

    scorer = make_scorer(likes_neighbours)
    graph = observed(scorer, random_codes(9, 4), random_labels(9, "class ids"))
    assert scorer.group(graph, 2, 2)[0].tolist() == [0, 0, 1, 1]


def test_a_subclass_is_a_scorer():
    class First(Scorer):
        def edges(self, graph, out_bits):
            return torch.ones_like(graph.moment), None

    scorer = First()
    assert make_scorer(scorer) is scorer
    assert scorer.group(RedundancyGraph(4), 2, 3)[0].tolist() == [0, 0, 0, 1]


def test_scorers_do_not_wait_for_a_device():
    # Fake tensors have no data: any .item(), bool() or boolean index would raise.
    with FakeTensorMode():
        codes, labels = torch.ones(8, 6), torch.ones(8, dtype=torch.long)
        graph = RedundancyGraph(6)
        for name in SCORERS:
            seen = make_scorer(name).measure(codes, labels)
            graph.update(codes, *seen)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: make_scorer("corelation"), ValueError, "must be one of correlation, drop"),
        (lambda: make_scorer(3), TypeError, "name, a Scorer object or a function"),
        (lambda: make_scorer(Correlation), TypeError, "a Scorer object"),
        (lambda: Correlation(weighting="best"), ValueError, "weighting must be"),
        (lambda: DropOne(every_n_steps=0), ValueError, "every_n_steps=0"),
        (lambda: DropOne(max_items=0), ValueError, "max_items=0"),
        (
            lambda: FunctionScorer(lambda c, y: c).measure(torch.ones(2, 3), torch.ones(2)),
            ValueError,
            r"must return shape \(3, 3\)",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
