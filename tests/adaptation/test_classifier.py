from contextlib import nullcontext

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from pml_nmlayer.adaptation import classifier
from pml_nmlayer.adaptation.classifier import (
    discriminants,
    fit_classifier,
    logistic_regression,
)
from pml_nmlayer.adaptation.novelty import known_share
from pml_nmlayer.adaptation.shrinkage import DEFAULT, chosen_shrinkage, halves_of
from pml_nmlayer.adaptation.whitening import ClassMoments


def groups(count, classes, features=8, spread=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, features, generator=generator)
    y = torch.arange(count) % classes
    return centres[y] + spread * torch.randn(count, features, generator=generator), y


@pytest.mark.parametrize("classes", [2, 5])
def test_logistic_regression_is_that_of_scikit_learn(classes):
    x, y = groups(200, classes)
    weight, bias = logistic_regression(x, y, num_classes=classes, strength=48.0)
    with pytest.warns(ConvergenceWarning) if classes > 2 else nullcontext():
        model = LogisticRegression(C=48.0, max_iter=20).fit(x.numpy(), y.numpy())
    found = F.linear(x, weight, bias).softmax(1)
    torch.testing.assert_close(
        found, torch.as_tensor(model.predict_proba(x.numpy())).float(), atol=1e-4, rtol=1e-4
    )


def test_discriminants_are_those_of_scikit_learn():
    x, y = groups(300, 4)
    weight, bias = discriminants(x, y, num_classes=4, shrinkage=0.0)
    model = LinearDiscriminantAnalysis(solver="lsqr").fit(x.numpy(), y.numpy())
    expected = torch.as_tensor(model.predict(x.numpy()))
    assert float((F.linear(x, weight, bias).argmax(1) == expected).float().mean()) > 0.99


def test_classes_without_items_are_never_predicted():
    x, y = groups(60, 3)
    weight, bias = logistic_regression(x, y + 1, num_classes=5, strength=48.0)
    assert set(F.linear(x, weight, bias).argmax(1).tolist()) == {1, 2, 3}
    for rows in (y == 0, y < 0):  # nothing to tell apart
        weight, bias = logistic_regression(x[rows], y[rows], num_classes=3, strength=48.0)
        assert not weight.any()
        assert not bias.any()


def test_probabilities_of_the_labelled_items_are_out_of_fold():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(400, 60, generator=generator)
    x = x / x.norm(dim=1).mean()
    y = torch.randint(4, (400,), generator=generator)  # labels that nothing explains
    weight, bias, trusted = fit_classifier(x, y, num_classes=4)
    assert float((trusted.argmax(1) == y).float().mean()) < 0.35
    assert float(F.cross_entropy(trusted, y)) < 1.45  # calibrated: little above log 4
    again = fit_classifier(x, y, num_classes=4)
    assert all(
        torch.equal(a, b) for a, b in zip((weight, bias, trusted), again, strict=True)
    )


def test_very_much_work_is_left_to_discriminants(monkeypatch):
    x, y = groups(100, 3)
    monkeypatch.setattr(classifier, "MOST_WORK", 0)
    monkeypatch.setattr(classifier, "logistic_regression", None)  # it would be called
    weight, _, trusted = fit_classifier(x, y, num_classes=3)
    assert weight.shape == (3, 8)
    assert trusted.shape == (100, 3)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_the_share_of_known_classes_is_found(share):
    x, y = groups(4000, 20, features=16)
    x = x / x.norm(dim=1).mean()
    known = y < 10
    labelled, searched = known & (torch.arange(4000) % 40 < 20), ~known
    weight, bias, trusted = fit_classifier(x[labelled], y[labelled], num_classes=10)
    others = torch.nonzero(known & ~labelled).flatten()
    new = torch.nonzero(searched).flatten()
    count = min(len(others), len(new))
    take = round(share * count)
    rows = torch.cat([others[:take], new[: count - take]])
    found, chance = known_share(trusted, y[labelled], F.linear(x[rows], weight, bias))
    assert abs(found - share) < 0.2
    if 0 < share < 1:
        truth = y[rows] < 10
        assert float(chance[truth].mean()) > float(chance[~truth].mean()) + 0.2


def test_whitening_goes_as_far_as_it_helps_other_classes():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(1200) % 12
    centres = torch.randn(12, 6, generator=generator)
    noise = torch.randn(1200, 6, generator=generator)
    loudness = 30 * torch.randn(1200, 1, generator=generator)
    half = halves_of(12)
    assert int(half.sum()) == 6

    def choice(x, classes=y, count=12):
        parts, items = [], []
        for k in range(2):
            own = halves_of(count)[classes] == k
            part = ClassMoments.empty(count, x.shape[1])
            part.update(x[own], classes[own])
            parts.append(part)
            items.append((x[own], classes[own]))
        return chosen_shrinkage((parts[0], parts[1]), items)

    # one loud column within every class: whitening silences it
    loud = torch.cat([centres[y] + 0.5 * noise, loudness], 1)
    assert choice(loud) == 0.1
    # columns that spread within the classes of one half tell those of the other apart
    place = half[y][:, None]
    left = torch.cat([centres[y] * place, centres[y] * (1 - place)], 1)
    spread = torch.cat([noise * (1 - place), noise * place], 1)
    assert choice(3 * left + 3 * spread) == 0.9
    few = torch.arange(1200) % 6
    assert choice(loud, few, 6) == DEFAULT  # too few classes
