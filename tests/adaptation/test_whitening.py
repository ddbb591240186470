import pytest
import torch
from torch.nn import functional as F

from pml_nmlayer.adaptation.whitening import (
    ClassMoments,
    linear_discriminants,
    whitening_matrix,
)


def items(count=60, features=5, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, features, generator=generator) + 3
    return x, torch.randint(classes, (count,), generator=generator)


def moments_of(x, y, classes, batch):
    moments = ClassMoments.empty(classes, x.shape[1])
    for rows, labels in zip(x.split(batch), y.split(batch), strict=True):
        moments.update(rows, labels)
    return moments


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_moments_of_batches_give_the_covariance_of_a_loop(batch):
    x, y = items()
    expected = torch.zeros(5, 5, dtype=torch.float64)
    for c in range(4):
        own = x[y == c].double()
        for row in own:
            expected += torch.outer(row - own.mean(0), row - own.mean(0))
    covariance = moments_of(x, y, 4, batch).within_class_covariance()
    torch.testing.assert_close(covariance, expected / len(x))


def test_moments_of_two_parts_add_up():
    x, y = items()
    found = moments_of(x[:20], y[:20], 4, 20) + moments_of(x[20:], y[20:], 4, 40)
    expected = moments_of(x, y, 4, 60)
    torch.testing.assert_close(found.means(), expected.means())
    torch.testing.assert_close(found.counts, expected.counts)
    torch.testing.assert_close(found.products, expected.products)


def test_whitening_without_shrinkage_makes_the_covariance_the_identity():
    x, y = items()
    covariance = moments_of(x, y, 4, 60).within_class_covariance()
    matrix = whitening_matrix(covariance, shrinkage=0)
    expected = torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(matrix @ covariance @ matrix.T, expected)


def test_degenerate_covariances_stay_finite():
    constant = torch.diag(torch.tensor([1.0, 0.0]))
    assert whitening_matrix(constant, shrinkage=0).isfinite().all()
    torch.testing.assert_close(
        whitening_matrix(torch.zeros(2, 2)), torch.eye(2, dtype=torch.float64)
    )
    with pytest.raises(ValueError, match="shrinkage"):
        whitening_matrix(constant, shrinkage=1.5)


def test_discriminants_classify_as_scikit_learn_does():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    x, _ = items(count=200)
    y = torch.arange(200) % 4
    x = x + 2 * torch.nn.functional.one_hot(y, 5)
    weight, bias = linear_discriminants(moments_of(x, y, 4, 200), shrinkage=0)
    oracle = LinearDiscriminantAnalysis(solver="lsqr", priors=[0.25] * 4).fit(x, y)
    ours = (x.double() @ weight.T + bias).argmax(1)
    assert (ours.numpy() == oracle.predict(x)).all()


def test_rounding_within_classes_is_no_variance():
    """One item a class, or copies of it: what the subtraction leaves whitens nothing."""
    x = F.normalize(torch.randn(60, 32), dim=1)
    for times in (1, 5):
        moments = ClassMoments.empty(60, 32)
        moments.update(x.repeat(times, 1), torch.arange(60).repeat(times))
        covariance = moments.within_class_covariance()
        assert torch.equal(covariance, torch.zeros(32, 32, dtype=torch.float64))
        assert torch.equal(whitening_matrix(covariance), torch.eye(32, dtype=torch.float64))
