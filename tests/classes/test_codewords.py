import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pml_nmlayer.classes.class_means import ClassMeans
from pml_nmlayer.classes import semantic_codebook as searching
from pml_nmlayer.classes.codebooks import codeword_targets, maximin_codebook
from pml_nmlayer.classes.objectives import (
    class_nll,
    code_terms,
    codeword_nll,
    label_map,
    label_residual,
)
from pml_nmlayer.classes.semantic_codebook import semantic_codebook
from pml_nmlayer.codes.convention import sign_ste
from pml_nmlayer.merging.bit_statistics import bit_statistics
from tests import naive


def distances(codewords):
    bits = codewords.shape[1]
    return (bits - codewords @ codewords.T) / 2


@given(st.integers(1, 12), st.integers(1, 9), st.integers(4, 10), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_every_class_has_a_codeword_of_its_own(classes, width, bits, seed):
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, width, generator=generator)
    codewords = semantic_codebook(means, bits, seed=seed)
    assert codewords.shape == (classes, bits)
    assert codewords.dtype == torch.float32
    assert codewords.abs().eq(1).all()
    assert len(codewords.unique(dim=0)) == classes
    assert torch.equal(codewords, semantic_codebook(means, bits, seed=seed))


def test_similar_classes_get_similar_codewords_if_there_is_a_choice():
    # Ten pairs of twins: with spare codes they share bits, the more the more there are.
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 32, generator=generator).repeat_interleave(2, 0)
    means = centres + 0.1 * torch.randn(20, 32, generator=generator)
    twins = torch.arange(20) ^ 1
    shares, correlations = [], []
    for spare in (0, 1, 7):
        codewords = semantic_codebook(means, bits=16, spare=spare)
        apart = distances(codewords)
        of_twins = apart[torch.arange(20), twins]
        assert of_twins.min() >= 1
        others = (apart.sum() - of_twins.sum()) / (20 * 18)
        shares.append(of_twins.mean() / others)
        correlations.append(bit_statistics(codewords).summary()["bit_correlation"])
    assert shares[0] > shares[1] > shares[2]
    assert shares[1] < 0.85
    assert shares[2] < 0.75
    assert correlations[0] < correlations[1] < correlations[2]


def test_columns_agree_with_means_of_that_width():
    codewords = semantic_codebook(torch.randn(6, 20, generator=torch.manual_seed(0)), 5)
    # Means that are codewords already, with columns in another order and negated
    order, signs = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([1.0, -1, 1, -1, -1])
    means = codewords[:, order] * signs
    again = semantic_codebook(means, 5)
    centred = means - means.mean(0)
    best = max(
        (centred * again[:, list(p)] * torch.tensor(s)).sum()
        for p in itertools.permutations(range(5))
        for s in itertools.product([-1.0, 1.0], repeat=5)
    )
    torch.testing.assert_close((centred * again).sum(), best)


def agreement(wanted, codewords):
    rotation = searching._procrustes(wanted, codewords)
    return float((wanted @ rotation * codewords).sum())


def wanted_by(classes, bits):
    """What classes in families want, and codes."""
    generator = torch.Generator().manual_seed(0)
    families = torch.randn(-(-classes // 5), bits, generator=generator)
    means = families.repeat_interleave(5, 0)[:classes].double()
    means += 0.5 * torch.randn(classes, bits, generator=generator)
    return means - means.mean(0), maximin_codebook(classes, bits).double()


@pytest.mark.parametrize("spare", [0, 2])
def test_many_classes_get_codewords_of_their_own(monkeypatch, spare):
    monkeypatch.setattr(searching, "_MANY_CLASSES", 3)
    monkeypatch.setattr(searching, "_BLOCK", 16)
    means, _ = wanted_by(60, 12)
    codewords = semantic_codebook(means, 9, spare=spare)
    assert len(codewords.unique(dim=0)) == 60
    assert torch.equal(codewords, semantic_codebook(means, 9, spare=spare))
    assert not torch.equal(codewords, semantic_codebook(means, 9, seed=1, spare=spare))


@pytest.mark.parametrize("spare", [0, 30])
def test_the_sum_never_falls_while_codes_change_hands(monkeypatch, spare):
    monkeypatch.setattr(searching, "_BLOCK", 16)
    rotated, _ = wanted_by(70, 12)
    pool = maximin_codebook(70 + spare, 12).double()
    codes = torch.randperm(len(pool))
    sums = []
    for _ in range(20):
        chosen = pool[codes[:70]]
        sums.append(float((rotated * chosen).sum()))
        direction = torch.randn(12, dtype=torch.float64)
        searching._sweep(
            rotated, pool, codes, chosen @ direction, pool[codes[70:]] @ direction
        )
        assert torch.equal(codes.sort().values, torch.arange(len(pool)))
    assert all(later >= sooner - 1e-9 for sooner, later in itertools.pairwise(sums))
    assert sums[-1] > 1.5 * abs(sums[0])


def test_a_single_block_is_an_exact_assignment():
    rotated, pool = wanted_by(40, 10)
    codes = torch.arange(40)
    searching._sweep(rotated, pool, codes, torch.randn(40), torch.empty(0))
    best = searching.assign_columns(rotated @ pool.T)
    torch.testing.assert_close((rotated * pool[codes]).sum(), (rotated * pool[best]).sum())


def test_blocks_come_close_to_assigning_all_at_once():
    wanted, pool = wanted_by(900, 16)
    together, _ = searching._assign(wanted, pool, torch.Generator().manual_seed(0))
    blocks = searching._assign_in_blocks(wanted, pool, torch.Generator().manual_seed(0))
    assert agreement(wanted, blocks) > 0.97 * together


def test_no_matrix_grows_with_the_square_of_many_classes(monkeypatch):
    largest = 0

    def watched(gains, real=searching.assign_columns):
        nonlocal largest
        largest = max(largest, gains.numel())
        return real(gains)

    monkeypatch.setattr(searching, "assign_columns", watched)
    monkeypatch.setattr(searching, "_SWEEPS", 1)
    assert len(semantic_codebook(torch.randn(2500, 6), 14).unique(dim=0)) == 2500
    assert largest <= searching._BLOCK**2


def test_classes_of_which_nothing_is_known_get_codewords_too():
    means = torch.zeros(6, 8)
    means[0, 0] = 1
    assert len(semantic_codebook(means, 4).unique(dim=0)) == 6


@pytest.mark.parametrize(
    ("means", "bits", "message"),
    [
        (torch.zeros(4), 8, r"shape \(C, D\), got \(4,\)"),
        (torch.full((4, 3), torch.nan), 8, "NaN or inf"),
        (torch.zeros(9, 3), 3, "3 bits have 8 codes, too few for num_classes=9"),
        (torch.zeros(2, 3), 0, "at least 1|bits >= 1"),
    ],
)
def test_bad_means(means, bits, message):
    with pytest.raises(ValueError, match=message):
        semantic_codebook(means, bits)


def test_fewer_than_no_spare_codes():
    with pytest.raises(ValueError, match="at least 0 a class, got -1"):
        semantic_codebook(torch.zeros(2, 3), 4, spare=-1)


@pytest.mark.parametrize("kind", ["ids", "rows"])
def test_class_means_equal_the_loop(kind):
    generator = torch.Generator().manual_seed(0)
    running = ClassMeans(5, 3)
    outputs = torch.randn(40, 3, generator=generator)
    rows = (torch.rand(40, 5, generator=generator) < 0.4).long()
    rows[:, 4] = 0  # a class that nobody has
    labels = rows
    if kind == "ids":
        labels = torch.randint(4, (40,), generator=generator)
        rows = torch.nn.functional.one_hot(labels, 5)
    for part in torch.arange(40).split([13, 0, 27]):
        running.update(outputs[part], labels[part])
    expected = naive.class_means(outputs.tolist(), rows.tolist())
    torch.testing.assert_close(running.mean, torch.tensor(expected))


@pytest.mark.parametrize("kind", ["ids", "rows", "real rows"])
@pytest.mark.parametrize("items", [0, 1, 30])
def test_class_nll_equals_the_loop(kind, items, dtype, device):
    scores = 5 * torch.randn(items, 6, dtype=dtype)
    rows = torch.rand(items, 6) < 0.4
    rows[::5] = False  # items without classes
    labels = {"ids": torch.arange(items) % 5, "rows": rows, "real rows": rows.float()}[kind]
    value = class_nll(scores.to(device), labels)
    expected = naive.class_nll(scores.tolist(), labels.tolist())
    assert (value.shape, value.dtype) == ((), torch.float32)
    torch.testing.assert_close(value.item(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["ids", "rows", "real rows"])
@pytest.mark.parametrize(("items", "bits"), [(1, 3), (30, 5), (4, 9)])
@pytest.mark.parametrize("ridge", [0.01, 0.3])
def test_reading_labels_equals_the_loop(kind, items, bits, ridge, device):
    codes = torch.where(torch.rand(items, bits) < 0.5, -1.0, 1.0)
    rows = torch.rand(items, 4) < 0.4
    ids = torch.arange(items) % 4
    if kind == "ids":
        rows = torch.nn.functional.one_hot(ids, 4)
    labels = {"ids": ids, "rows": rows, "real rows": rows.float()}[kind]
    value = label_residual(codes.to(device), labels, 4, ridge)
    expected = naive.label_residual(codes.tolist(), rows.int().tolist(), ridge)
    assert (value.shape, value.dtype) == ((), torch.float32)
    torch.testing.assert_close(value.item(), expected, rtol=1e-3, atol=1e-5)
    W = label_map(codes.to(device), rows.float().to(device), ridge)
    expected = naive.label_map(codes.tolist(), rows.int().tolist(), ridge)
    torch.testing.assert_close(W.tolist(), expected, rtol=1e-3, atol=1e-4)


def test_labels_that_are_bits_can_be_read():
    rows = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    codes = torch.cat([torch.ones(40, 1), 2.0 * rows - 1], 1)
    assert label_residual(codes, rows, 3, ridge=1e-4) < 1e-3
    assert label_residual(torch.ones(40, 4), rows, 3, ridge=1e-4) > 0.5
    assert label_residual(codes[:0], rows[:0], 3, ridge=0.3) == 0


@pytest.mark.parametrize(("items", "bits"), [(12, 3), (4, 9), (6, 6)])
def test_the_gradient_is_that_of_the_smallest_regularized_residual(items, bits):
    codes = torch.randn(items, bits, dtype=torch.float64, requires_grad=True)
    rows = (torch.rand(items, 4) < 0.5).double()

    def smallest(b):
        gram = b.T @ b / items + 0.3 * torch.eye(bits, dtype=torch.float64)
        W = torch.linalg.solve(gram, b.T @ rows / items).T
        return (rows - b @ W.T).square().sum() / items + 0.3 * W.square().sum()

    (expected,) = torch.autograd.grad(smallest(codes), codes)
    (found,) = torch.autograd.grad(label_residual(codes, rows, 4, 0.3), codes)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tanh", [True, False])
@pytest.mark.parametrize("items", [0, 1, 20])
def test_distance_to_codewords_equals_the_loop(items, tanh, dtype, device):
    outputs = torch.randn(items, 6, dtype=dtype)
    outputs = outputs.tanh() if tanh else outputs
    outputs[:1, 0] = -1.0
    targets = torch.where(torch.rand(items, 6) < 0.5, -1.0, 1.0)
    targets[:1, 0] = 1.0  # a saturated bit on the wrong side
    u = outputs.to(device).requires_grad_()
    value = codeword_nll(u, targets.to(device), tanh)
    expected = naive.codeword_nll(outputs.tolist(), targets.tolist(), tanh)
    assert (value.shape, value.dtype) == ((), torch.float32)
    torch.testing.assert_close(value.item(), expected, rtol=1e-5, atol=1e-6)
    (slope,) = torch.autograd.grad(value, u)
    assert slope.dtype == dtype
    for i, k in itertools.product(range(min(items, 2)), range(6)):
        sides = []
        for step in (-1e-4, 1e-4):
            rows = outputs.double().clone()
            rows[i, k] += step
            sides.append(naive.codeword_nll(rows.tolist(), targets.tolist(), tanh))
        flat = tanh and (i, k) == (0, 0)
        numeric = 0.0 if flat else (sides[1] - sides[0]) / 2e-4
        assert slope[i, k].item() == pytest.approx(numeric, rel=2e-2, abs=1e-4)


def both_terms(outputs, labels, tanh, codewords, tie_bits):
    rows = labels
    if labels.ndim == 1:
        rows = torch.nn.functional.one_hot(labels, 4)
    targets = codeword_targets(labels, rows.float(), codewords, tie_bits)
    codes = sign_ste(outputs if tanh else outputs.tanh())
    pull = 0.5 * codeword_nll(outputs, targets, tanh)
    return pull, 3 * label_residual(codes, labels, 4, 0.3)


@pytest.mark.parametrize("tanh", [True, False])
@pytest.mark.parametrize("kind", ["ids", "rows"])
@pytest.mark.parametrize(("items", "bits"), [(12, 5), (4, 9), (0, 3)])
def test_both_terms_at_once_equal_each_alone(items, bits, kind, tanh, dtype, device):
    outputs = torch.randn(items, bits, dtype=dtype, device=device)
    outputs = (outputs.tanh() if tanh else outputs).requires_grad_()
    labels = {"ids": torch.arange(items) % 4, "rows": torch.rand(items, 4) < 0.4}[kind]
    codewords = maximin_codebook(4, bits).to(device)
    tie_bits, labels = torch.ones(bits, device=device), labels.to(device)
    options = {"num_classes": 4, "tanh": tanh, "ridge": 0.3}
    options |= {"codeword_weight": 0.5, "label_weight": 3.0}
    found = code_terms(outputs, labels, codewords=codewords, tie_bits=tie_bits, **options)
    expected = both_terms(outputs, labels, tanh, codewords, tie_bits)
    torch.testing.assert_close(found, expected)
    for weights in ((1.0, 0.0), (0.0, 1.0), (2.0, -1.0)):
        sums = [sum(w * t for w, t in zip(weights, terms, strict=True)) for terms in (found, expected)]
        grads = [torch.autograd.grad(s, outputs, retain_graph=True)[0] for s in sums]
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)
    one = code_terms(outputs, labels, codewords=None, **options)
    assert one[0] is None
    torch.testing.assert_close(one[1], expected[1])
    options |= {"label_weight": 0.0}
    pull, none = code_terms(
        outputs, labels, codewords=codewords, tie_bits=tie_bits, **options
    )
    assert none is None
    torch.testing.assert_close(pull, expected[0])
    assert code_terms(outputs, labels, **options) == (None, None)


def terms_of(outputs, scores, labels):
    pull, read = code_terms(
        outputs,
        labels,
        num_classes=4,
        tanh=True,
        ridge=0.3,
        codewords=torch.eye(4, 6) * 2 - 1,
    )
    return pull + read + class_nll(scores, labels)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_terms_are_the_same_under_autocast_and_compiled():
    outputs = torch.randn(12, 6).tanh().requires_grad_()
    scores = torch.randn(12, 4, requires_grad=True)
    labels = torch.arange(12) % 4
    value = terms_of(outputs, scores, labels)
    slopes = torch.autograd.grad(value, (outputs, scores))
    with torch.autocast("cpu", torch.bfloat16):
        again = terms_of(outputs, scores, labels)
    assert torch.equal(again, value)
    for one, other in zip(
        torch.autograd.grad(again, (outputs, scores)), slopes, strict=True
    ):
        assert torch.equal(one, other)
    compiled = torch.compile(terms_of, backend="aot_eager", fullgraph=True)
    again = compiled(outputs, scores, labels)
    torch.testing.assert_close(again, value)
    torch.testing.assert_close(torch.autograd.grad(again, (outputs, scores)), slopes)


def test_old_items_fade():
    running = ClassMeans(2, 1, memory=10)
    running.update(torch.ones(10, 1), torch.zeros(10, dtype=torch.long))
    running.update(-torch.ones(10, 1), torch.zeros(10, dtype=torch.long))
    assert running.items.tolist() == [10, 0]
    running.update(-torch.ones(10, 1), torch.zeros(10, dtype=torch.long))
    torch.testing.assert_close(running.mean[0, 0].item(), -0.5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_batch_that_is_not_finite_is_left_out(bad):
    running = ClassMeans(2, 3)
    running.update(torch.ones(4, 3), torch.tensor([0, 0, 1, 1]))
    running.update(torch.tensor([[bad, 1, 1]]), torch.tensor([0]))
    assert running.items.tolist() == [2, 2]
    assert running.mean.eq(1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ClassMeans(0, 3), "at least 1, got num_classes=0"),
        (lambda: class_nll(torch.ones(2, 3), torch.tensor([0, 3])), r"num_classes=3\)"),
        (lambda: class_nll(torch.ones(2, 3), torch.zeros(2, 4)), "num_classes=3 columns"),
        (lambda: class_nll(torch.ones(2, 3), torch.zeros(2)), "must be integers"),
        (
            lambda: label_residual(torch.ones(2, 3), torch.zeros(2, 4), 3, 0.3),
            "num_classes=3 columns",
        ),
        (
            lambda: ClassMeans(3, 2).update(torch.ones(2, 2), torch.tensor([0])),
            "got 2 items but 1",
        ),
        (
            lambda: ClassMeans(3, 2).update(torch.ones(2, 2), torch.tensor([0, 3])),
            r"\[0, num_classes=3\)",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
