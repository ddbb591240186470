import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pml_nmlayer.adaptation import fit_codes
from pml_nmlayer.adaptation.multilabel import (
    LabelMoments,
    calibrated,
    fit_label_probabilities,
)
from pml_nmlayer.adaptation.rows import read_labels
from pml_nmlayer.adaptation.targets import label_teacher
from pml_nmlayer.adaptation.whitening import ClassMoments
from pml_nmlayer.codes import binarize
from pml_nmlayer.ranking import mean_average_precision
from pml_nmlayer.retrieval.head_layers import build, code_length, describe

STEPS = 5


def items(count=400, features=10, labels=5, seed=0, noise=1.0):
    """Each label moves an item into a direction of its own."""
    generator = torch.Generator().manual_seed(seed)
    rows = (torch.rand(count, labels, generator=generator) < 0.35).long()
    effects = 2 * torch.eye(labels, features)
    x = noise * torch.randn(count, features, generator=generator)
    return x + rows.float() @ effects, rows


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_one_label_an_item_gives_the_covariance_of_classes(batch):
    x, _ = items(60)
    y = torch.arange(60) % 4
    classes, labels = ClassMoments.empty(4, 10), LabelMoments.empty(4, 10)
    classes.update(x, y)
    for part, rows in zip(x.split(batch), F.one_hot(y).split(batch), strict=True):
        labels.update(part, rows)
    expected = classes.within_class_covariance()
    torch.testing.assert_close(
        labels.within_class_covariance(), expected, rtol=1e-3, atol=1e-3
    )


def test_what_a_regression_leaves_is_the_covariance():
    x, rows = items()
    moments = LabelMoments.empty(5, 10)
    moments.update(x, rows)
    design = np.c_[rows.numpy(), np.ones(len(rows))]
    effects, *_ = np.linalg.lstsq(design, x.numpy().astype(float), rcond=None)
    left = x.numpy() - design @ effects
    np.testing.assert_allclose(
        moments.within_class_covariance(), left.T @ left / len(x), atol=1e-3
    )


def test_labels_that_depend_on_each_other_stay_finite():
    x, rows = items(50)
    moments = LabelMoments.empty(10, 10)
    moments.update(x, torch.cat([rows, rows], 1))
    assert moments.within_class_covariance().isfinite().all()
    assert LabelMoments.empty(3, 4).within_class_covariance().abs().max() == 0


def test_calibration_is_that_of_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    x, rows = items(3000)
    scores = x[:, :5] / 4
    slope, offset = calibrated(scores, rows)
    for label in range(5):
        oracle = LogisticRegression(C=1e6).fit(scores[:, [label]], rows[:, label])
        assert slope[label].item() == pytest.approx(oracle.coef_.item(), rel=0.05)
        assert offset[label].item() == pytest.approx(oracle.intercept_.item(), rel=0.05)


@pytest.mark.parametrize("kind", ["never", "always", "perfect"])
def test_calibration_of_degenerate_labels_stays_finite(kind):
    rows = {"never": torch.zeros(40), "always": torch.ones(40)}.get(
        kind, (torch.arange(40) % 2).float()
    )[:, None]
    scores = 100 * (rows - 0.5)
    slope, offset = calibrated(scores, rows)
    found = torch.sigmoid(slope * scores + offset)
    assert found.isfinite().all()
    assert (found - rows).abs().max() < 0.3


def test_probabilities_tell_labels_of_new_items():
    x, rows = items()
    new, wanted = items(seed=1)
    weight, bias, own = fit_label_probabilities(x, rows)
    for scores, truth in ((F.linear(new, weight, bias), wanted), (own, rows)):
        found = scores.sigmoid()
        assert ((found > 0.5) == truth.bool()).float().mean() > 0.8
        assert (found.mean(0) - truth.float().mean(0)).abs().max() < 0.1


def test_items_that_share_labels_are_similar_to_the_teacher():
    x, rows = items()
    teacher = label_teacher(x, rows.float(), (10, 20), 0)
    similarity = teacher @ teacher.T
    shared = rows @ rows.T
    torch.testing.assert_close(teacher.norm(dim=1), torch.ones(400))
    assert similarity[shared >= 2].mean() > similarity[shared == 1].mean() + 0.1
    assert similarity[shared == 1].mean() > similarity[shared == 0].mean() + 0.1


def test_rows_with_one_label_each_mean_class_ids():
    x, _ = items(200)
    y = torch.arange(200) % 4
    y = torch.where(torch.arange(200) < 150, y, -1)
    rows = torch.where((y >= 0)[:, None], F.one_hot(y.clamp(min=0), 6), -1)
    ids, hot = (fit_codes(x, each, bits=6, steps=STEPS) for each in (y, rows))
    assert torch.equal(ids.module(x), hot.module(x))
    assert hot.classes.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("labelled", [400, 200, 6, 1])
@pytest.mark.parametrize("linear", [False, True])
def test_codes_of_items_with_several_labels(labelled, linear):
    x, rows = items()
    rows[0] = 1
    rows = torch.where((torch.arange(400) < labelled)[:, None], rows, -1)
    fitted = fit_codes(x, rows, bits=6, steps=STEPS, linear=linear)
    assert fitted.module(x).isfinite().all()
    assert fitted.classes.tolist() == [0, 1, 2, 3, 4]
    copy = build(describe(fitted.module))
    copy.load_state_dict(fitted.module.state_dict())
    torch.testing.assert_close(copy(x), fitted.module(x), rtol=0, atol=0)
    assert code_length(fitted.module) == 6


def test_new_items_with_a_shared_label_are_found():
    import faiss

    x, rows = items(600)
    new, wanted = items(300, seed=1)
    for each in (x, new):
        each[:, 5:] *= 4  # what labels do not explain
    itq = faiss.ITQTransform(10, 8, True)
    itq.train(x.numpy())
    codes = {
        "itq": [torch.from_numpy(itq.apply(each.numpy())) for each in (new, x)],
    }
    module = fit_codes(x, rows, bits=8, steps=50).module
    codes["ours"] = [module(each) for each in (new, x)]
    score = {
        name: mean_average_precision(binarize(q), wanted, binarize(d), rows)
        for name, (q, d) in codes.items()
    }
    assert score["ours"] > score["itq"] + 0.05


@pytest.mark.parametrize(
    "rows",
    [np.arange(6).reshape(3, 2), np.array([[0], [1], [1]]), np.array([[0, -1]] * 3)],
    ids=["other values", "one column", "partly -1"],
)
def test_rows_that_are_not_multi_hot_are_refused(rows):
    with pytest.raises(ValueError, match="multi-hot rows of 0 and 1"):
        read_labels(rows, 3)
