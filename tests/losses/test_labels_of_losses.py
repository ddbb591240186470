"""The one check of labels, at every loss: nonsense is refused and not trained on."""

import warnings

import pytest
import torch
from pytorch_metric_learning import losses
from torch.nn import functional as F

from pml_nmlayer.labels import LabelMap, checks
from pml_nmlayer.losses import DPSHLoss, HashCrossBatchMemory, MultiLabelLoss
from tests.compatibility import BITS, CLASSES, build, class_ids, embeddings, our_classes

IDS = class_ids()
MAKERS = {cls.__name__: lambda cls=cls: build(cls) for cls in our_classes()} | {
    "MultiLabelLoss": lambda: MultiLabelLoss(losses.ContrastiveLoss()),
    "HashCrossBatchMemory": lambda: HashCrossBatchMemory(DPSHLoss(), BITS, 64),
}
BAD = {
    "a column": (IDS[:, None], "squeeze|must be class ids|columns, got 1"),
    "smoothed": (F.one_hot(IDS, 4) * 0.9 + 0.025, "rows.argmax|must be class ids"),
    "fine and coarse": (torch.stack([IDS, IDS % 2], 1), "labels\\[:, 0\\]|ids|columns"),
    "fractions": (IDS + 0.5, "whole numbers"),
    "NaN": (IDS * torch.nan, "whole numbers"),
    "large floats": (IDS.float() + 2**25, "can tell apart"),
    "too few": (IDS[:-1], "items but"),
    "3-D": (IDS[:, None, None], r"shape \(B,\)|must be class ids"),
    "complex": (IDS.to(torch.complex64), "must be real numbers"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", MAKERS)
def test_refuses(name, bad):
    labels, message = BAD[bad]
    with pytest.raises((ValueError, TypeError), match=message):
        MAKERS[name]()(embeddings(), labels)


@pytest.mark.parametrize("name", MAKERS)
def test_refuses_what_is_no_tensor(name):
    with pytest.raises((ValueError, TypeError), match=r"LabelMap|list"):
        MAKERS[name]()(embeddings(), ["owl"] * 24)


@pytest.mark.parametrize("name", MAKERS)
def test_refuses_integer_embeddings(name):
    if name != "MultiLabelLoss":  # PML's own loss decides
        with pytest.raises((TypeError, RuntimeError), match=r"tensor of floats|int"):
            MAKERS[name]()(torch.ones(24, BITS, dtype=torch.long), IDS)


@pytest.mark.parametrize("name", [n for n in MAKERS if hasattr(MAKERS[n](), "num_classes")])
def test_class_wise_losses_name_the_ids_and_the_map(name):
    loss = MAKERS[name]()
    if loss.num_classes is None:
        pytest.skip("knows no classes")
    names = ["owl", "cat", "bee", "ant"]
    strange = torch.tensor([17, 3, 1001, -5])[IDS]
    with pytest.raises(
        ValueError, match=r"namely -5, 3, 17, 1001; map yours with .*LabelMap"
    ):
        loss(embeddings(), strange)
    torch.manual_seed(0)
    mapped = MAKERS[name]()
    torch.manual_seed(0)
    named = MAKERS[name]()
    mapped.eval(), named.eval()
    labels, order = LabelMap(strange)(strange), LabelMap(names)
    assert mapped(embeddings(), labels).isfinite()
    assert named(embeddings(), order([names[i] for i in IDS])).isfinite()


@pytest.mark.parametrize("name", MAKERS)
def test_a_column_of_rows_warns_once_or_is_refused(name):
    rows = F.one_hot(IDS, CLASSES)
    loss = MAKERS[name]()
    if getattr(loss, "num_classes", None) == CLASSES:
        with pytest.raises(ValueError, match="so whole rows are meant"):
            loss(embeddings(), rows[:, 0])
        return
    with pytest.warns(UserWarning, match=r"multilabel\(Trainer\)"):
        loss(embeddings(), rows[:, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(embeddings(), rows[:, 0])


def test_a_column_gave_another_value_than_its_ids():
    u = embeddings()
    expected = DPSHLoss()(u, IDS)
    assert DPSHLoss()(u, F.one_hot(IDS, 4)) == expected
    assert DPSHLoss()(u, IDS.double()) == expected
    assert DPSHLoss()(u, IDS * 2**40) == expected


@pytest.mark.parametrize("name", [n for n in MAKERS if n != "MultiLabelLoss"])
def test_values_are_read_on_a_gpu_in_the_first_batch_alone(name, monkeypatch):
    """`read` True reads anywhere, None on the CPU only: later batches stall no GPU."""
    asked = []

    def record(labels, read=None):
        asked.append(read)
        return True

    monkeypatch.setattr(checks, "is_readable", record)
    loss = MAKERS[name]()
    if name == "HashCrossBatchMemory":
        loss.loss._has_read_labels = True
    loss(embeddings(), IDS)
    assert True in asked
    asked.clear()
    loss(embeddings(), IDS)
    assert set(asked) == {None}
