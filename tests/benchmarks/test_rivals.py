"""Rivals that learn no network, each against scikit-learn, faiss or a loop."""

import itertools

import faiss
import numpy as np
import pytest
import torch
from scipy.stats import beta
from sklearn.decomposition import PCA
from torch.nn.functional import normalize

from benchmarks.interface import METHODS, Pair, Problem, Unsuited
from benchmarks.methods.product_codes import Product, RaBitQ
from benchmarks.methods.quantized import whitening_map, within_class_covariance
from benchmarks.methods.supervised import cca_directions, discrete_codes, label_rows
from benchmarks.methods.unsupervised import CalibratedCosines
from benchmarks.training.learner import start_from_components

CENTRES = torch.randn(5, 20, generator=torch.Generator().manual_seed(1))
Y = torch.arange(300) % 5
X = CENTRES[Y] + 0.7 * torch.randn(300, 20, generator=torch.Generator().manual_seed(2))
PROBLEM = Problem(20, 5, 8, epochs=1, decay=0.4, batch_size=50)


def made(name, problem=PROBLEM, **options):
    torch.manual_seed(0)
    method = METHODS[name]
    return method.factory(problem, **method.settings(options))


def test_covariance_within_classes_by_a_loop():
    x = X.numpy().astype(np.float64)
    total = np.zeros((20, 20))
    for label in range(5):
        rows = x[Y.numpy() == label]
        for row in rows - rows.mean(0):
            total += np.outer(row, row)
    np.testing.assert_allclose(within_class_covariance(x, Y.numpy()), total / 300)


def test_whitened_classes_are_round():
    x = X.numpy()
    white = x @ whitening_map(x, Y.numpy(), 0.0)
    np.testing.assert_allclose(
        within_class_covariance(white, Y.numpy()), np.eye(20), atol=1e-8
    )
    # with all of it shrunk only the size changes
    shrunk = whitening_map(x, Y.numpy(), 1.0)
    np.testing.assert_allclose(shrunk, shrunk[0, 0] * np.eye(20), atol=1e-12)


def test_signs_of_principal_components_are_those_of_scikit_learn():
    method = made("signs_raw_database", ways=["pca"])
    method.fit(X[:10], Y[:10], X)
    vectors = normalize(X - X.mean(0))
    expected = PCA(8).fit_transform(vectors.numpy())
    outputs = method.encode(X)["pca.asymmetric"].queries.numpy()
    same = np.sign((outputs * expected).sum(0))
    np.testing.assert_allclose(outputs * same, expected, atol=1e-4)
    np.testing.assert_array_equal(method.encode(X)["pca"] > 0, outputs >= 0)


def test_rotations_keep_distances_of_components():
    method = made("signs_raw_database")
    method.fit(X[:10], Y[:10], X)
    found = method.encode(X)
    plain, rotated, itq = (
        found[f"{name}.asymmetric"].queries for name in ("pca", "pca_rotated", "itq")
    )
    torch.testing.assert_close(
        torch.cdist(rotated, rotated), torch.cdist(plain, plain), atol=2e-3, rtol=1e-3
    )
    # ITQ lowers the loss of rounding, which it is made for; faiss scales vectors first
    rotated, itq = (8**0.5 * normalize(each) for each in (rotated, itq))
    assert (itq - itq.sign()).square().mean() < (rotated - rotated.sign()).square().mean()


@pytest.mark.parametrize("database", [True, False], ids=["database", "training"])
def test_what_is_fitted_on(database):
    shifted = X + 3
    name = "database" if database else "training"
    method = made(f"signs_raw_{name}", ways=["itq"])
    method.fit(X, Y, **({"database": shifted} if database else {}))
    assert method.uses_database == database
    torch.testing.assert_close(method.mean, (shifted if database else X).mean(0))


def test_the_database_is_not_replaced_by_training_items():
    for name in ("signs_raw_database", "product_raw_database", "cca_itq", "floats_raw"):
        with pytest.raises(ValueError, match=r"fit\(\.\.\., database=items\)"):
            made(name).fit(X, Y)


def test_whitening_needs_labels_of_one_class():
    for labels in (None, torch.zeros(300, 5)):
        with pytest.raises(Unsuited, match="one class an item"):
            made("signs_whitened_database").fit(X, labels, X)


@pytest.mark.parametrize("rotated", [False, True], ids=["pq", "opq"])
def test_product_codes_rank_as_faiss_ranks(rotated):
    product = Product(16, 16, rotated=rotated)
    product.train(X)
    found = product.pairs("pq", X)
    values = X.numpy()
    for transform in product.chain:
        values = transform.apply(values)
    index = faiss.IndexPQ(16, 2, 8)
    index.pq = product.quantizer
    index.is_trained = True
    index.add(values)
    distances, items = index.search(values[:9], 300)
    asking, stored = found["pq.asymmetric"].queries, found["pq"].stored
    ours = values[:9].__pow__(2).sum(1)[:, None] - (asking[:9] @ stored.T).numpy()
    np.testing.assert_allclose(
        np.take_along_axis(ours, items, 1), distances, rtol=1e-3, atol=1e-3
    )
    assert found["pq"].bits == 16
    own = found["pq"]
    decoded = stored[:, :-1]
    symmetric = decoded.square().sum(1)[:, None] - own.queries @ stored.T
    torch.testing.assert_close(
        symmetric, torch.cdist(decoded, decoded).square(), atol=1e-3, rtol=1e-3
    )


def test_rabitq_ranks_as_faiss_ranks():
    rabitq = RaBitQ(8)
    rabitq.train(X)
    found = rabitq.pairs("rabitq", X)
    values = X.numpy()
    for transform in rabitq.chain:
        values = transform.apply(values)
    distances, items = rabitq.index.search(values[:9], 300)
    pair = found["rabitq.asymmetric"]
    ours = (values[:9] ** 2).sum(1)[:, None] - (pair.queries[:9] @ pair.stored.T).numpy()
    ours = ours.clip(min=0)  # as faiss does
    np.testing.assert_allclose(
        np.take_along_axis(ours, items, 1), distances, rtol=1e-3, atol=1e-3
    )
    assert pair.bits == 8 + 64


def test_bits_that_no_parts_make():
    with pytest.raises(Unsuited, match="7 bits are no parts"):
        Product(7, 16, rotated=False).train(X)
    with pytest.raises(Unsuited, match="24 bits need as many"):
        made("signs_raw_database", Problem(20, 5, 24, 1, 0.4, 50))


def test_correlated_directions_are_those_of_a_singular_value_decomposition():
    # canonical correlations are the singular values of Qx' Qy of two QR decompositions
    rows = label_rows(Y)
    directions = cca_directions(X, rows, 4, ridge=1e-9)
    q, r = (np.linalg.qr((v - v.mean(0)).double().numpy())[0] for v in (X, rows[:, :4]))
    expected = np.linalg.svd(q.T @ r)[1]
    outputs = (X - X.mean(0)).double() @ directions.double()
    # each direction has variance 1, times its squared correlation
    np.testing.assert_allclose(
        outputs.square().mean(0).numpy(), expected**2, rtol=1e-3, atol=1e-6
    )


def test_directions_beyond_the_classes_are_zeros():
    directions = cca_directions(X, label_rows(Y), 8, ridge=0.1)
    assert directions.shape == (20, 8)
    assert bool((directions[:, 5:] == 0).all())


def test_discrete_codes_lower_the_loss_to_where_no_bit_helps():
    g = torch.Generator().manual_seed(0)
    rows = torch.eye(3)[torch.arange(6) % 3]
    reader, wanted = torch.randn(4, 3, generator=g), torch.randn(6, 4, generator=g)

    def loss(codes):
        read = (rows - codes @ reader).square().sum()
        return (read + 0.1 * (codes - wanted).square().sum()).item()

    start = torch.where(torch.randn(6, 4, generator=g) < 0, -1.0, 1.0)
    found = discrete_codes(start, rows, reader, wanted, 0.1, 50)
    for item, bit in itertools.product(range(6), range(4)):
        flipped = found.clone()
        flipped[item, bit] *= -1
        assert loss(flipped) >= loss(found) - 1e-5


def test_codes_of_a_class():
    method = made("class_codes")
    method.fit(X, Y)
    found, training = method.encode(X), method.encode_training()
    predicted = method.classifier.predict(4 * method.vectors(X).numpy())
    for name in ("code", "semantic"):
        torch.testing.assert_close(
            found[name], method.codebooks[name][torch.from_numpy(predicted)]
        )
        torch.testing.assert_close(training[name], method.codebooks[name][Y])
    number = found["number"]
    assert isinstance(number, Pair)
    assert number.bits == 3  # of five classes
    torch.testing.assert_close(number.stored.argmax(1), torch.from_numpy(predicted))
    posterior = found["number.asymmetric"].queries
    torch.testing.assert_close(posterior.sum(1), torch.ones(300))


def test_codes_of_labels():
    rows = torch.stack([Y == 0, Y % 2 == 0, Y > 2], 1).to(torch.uint8)
    method = made("label_codes")
    method.fit(X, rows)
    found = method.encode(X)
    expected = method.classifier.predict(4 * method.vectors(X).numpy())
    np.testing.assert_array_equal(found["vector"].stored > 0, expected > 0)
    assert found["vector"].bits == 3
    assert found["itq"].shape == found["pca"].shape == (300, 8)
    for name, labels in (("class_codes", rows), ("label_codes", Y)):
        with pytest.raises(Unsuited, match="an item"):
            made(name).fit(X, labels)


@pytest.mark.parametrize("name", ["cca_itq", "sdh", "adapt", "hasher"])
def test_supervised_codes_find_what_labels_say(name):
    method = made(name)
    more = {"database": X} if getattr(method, "uses_database", False) else {}
    method.fit(X[:200], Y[:200], **more)
    codes = method.encode(X)["code"]
    same = Y[:, None] == Y
    likeness = codes @ codes.T
    assert likeness[same].mean() > likeness[~same].mean() + 2


def test_calibrated_cosines_by_a_loop():
    outputs, inputs = X[:5, :3] * 2, X[:5]
    alike = {
        (i, j): torch.cosine_similarity(inputs[i], inputs[j], 0).item()
        for i, j in itertools.permutations(range(5), 2)
    }
    order = sorted(alike, key=alike.get)
    total = 0.0
    for i, j in order:
        # both places of a pair have one cosine: the mean of their ranks, up to rounding
        place = order.index((i, j)) / (len(order) - 1)
        target = 2 * beta.ppf(place, 5.0, 5.0) - 1
        cosine = torch.cosine_similarity(outputs[i], outputs[j], 0).item()
        total += (cosine - target) ** 2 / len(order)
    rounded = [1 - torch.cosine_similarity(row, row.sign(), 0).item() for row in outputs]
    loss = CalibratedCosines(5.0, 0.1)(outputs, inputs).item()
    assert loss == pytest.approx(total + 0.1 * np.mean(rounded), rel=2e-2)


@pytest.mark.parametrize("name", ["bi_half", "sdc"])
@pytest.mark.parametrize("start", ["hidden", "features"])
def test_networks_without_labels_keep_likeness(name, start):
    problem = Problem(20, 0, 8, epochs=40, decay=0.4, batch_size=50)
    method = made(name, problem, start=start, lr=3e-3)
    method.fit(X, None)
    codes = method.encode(X)["code"]
    same = Y[:, None] == Y
    likeness = codes @ codes.T
    assert likeness[same].mean() > likeness[~same].mean() + 2


def test_heads_start_from_rotated_components():
    torch.manual_seed(0)
    head = torch.nn.Linear(20, 8)
    start_from_components(head, X)
    outputs = head(X)
    expected = torch.from_numpy(PCA(8).fit_transform(X.numpy()))
    scale = outputs.square().mean().sqrt() / expected.square().mean().sqrt()
    assert outputs.square().mean().item() == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(
        torch.cdist(outputs, outputs), torch.cdist(expected, expected) * scale,
        atol=1e-2, rtol=1e-3,
    )  # fmt: skip
