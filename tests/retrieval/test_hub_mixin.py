"""A user's model of trunk and ProgressiveHead through Hugging Face's mixin, offline."""

import socket

import pytest
import torch
from torch import nn

from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.retrieval import HashEncoder
from tests.digits import digits

hub = pytest.importorskip("huggingface_hub")
BITS = (24, 12, 6)


class Model(nn.Module, hub.PyTorchModelHubMixin):
    def __init__(self, bits=BITS, **options):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.head = ProgressiveHead(32, bits, **options)

    def forward(self, x):
        return self.head(self.trunk(x))


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refuse(*args):
        raise AssertionError("asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # read at import, so for a first one only
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def observe(model, start):
    """A few batches, all different; the batch norm sees them too."""
    x, y = digits()[0][start : start + 200]
    model.train()
    with torch.no_grad():
        for part in range(0, 200, 50):
            model.head.observe(model(x[part : part + 50]), y[part : part + 50])


def at_stage(stage, **options):
    torch.manual_seed(1)
    model = Model(**options)
    for merge in range(stage):
        observe(model, 100 * merge)
        model.head.merge_next()
    observe(model, 300)  # and a graph on the way to the next one
    return model


def assert_equal(model, other):
    state, other_state = model.state_dict(), other.state_dict()
    assert list(state) == list(other_state)
    for name, value in state.items():
        assert value.dtype == other_state[name].dtype
        assert torch.equal(value, other_state[name]), name
    assert (model.head.stage, model.head.bits) == (other.head.stage, other.head.bits)
    for layer, other_layer in zip(model.head.layers, other.head.layers, strict=True):
        assert layer.phase == other_layer.phase
    x = digits()[1][:][0]
    codes = HashEncoder(model.trunk, model.head).encode(x)
    assert torch.equal(codes, HashEncoder(other.trunk, other.head).encode(x))
    features = model.trunk(x)
    for bits in model.head.all_bits[: model.head.stage + 1]:
        if model.head.longer != "drop" or bits == model.head.bits:
            longer = [each.head.codes(features, bits) for each in (model, other)]
            assert torch.equal(*longer)
    assert torch.equal(model.eval()(x), other.eval()(x))


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_norm": True},
        {"constant_width": True, "longer": "joint"},
        {"bits": [16, 7, 5], "longer": "drop", "scorer": "drop_one"},
        {"num_classes": 10},
        {"num_classes": 10, "readout": 0.3, "longer": "joint"},
    ],
    ids=str,
)
def test_every_stage_comes_back(tmp_path, stage, options):
    model = at_stage(stage, **options)
    model.save_pretrained(tmp_path / "model")
    torch.manual_seed(2)
    for strict in (False, True):
        loaded = Model.from_pretrained(tmp_path / "model", strict=strict)
        assert_equal(model, loaded)
    # A second generation has the same files.
    loaded.save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        files = [tmp_path / folder / name for folder in ("model", "again")]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("stage", [0, 1])
def test_training_goes_on_alike(tmp_path, stage):
    model = at_stage(stage)
    model.save_pretrained(tmp_path)
    loaded = Model.from_pretrained(tmp_path)
    for each in (model, loaded):
        observe(each, 200)
        each.head.merge_next()
    assert_equal(model, loaded)
    assert model.head.layers[stage].phase == "frozen"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": (16, 8)}, r"bits: \[24, 12, 6\], here \[16, 8\]"),
        ({"activation": None}, "activation: 'tanh', here None"),  # of equal shapes
        ({"num_classes": 10, "readout": 2}, r"readout: 0\.0, here 2"),
    ],
)
def test_a_head_with_other_options_is_refused(tmp_path, options, message):
    at_stage(1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        Model.from_pretrained(tmp_path, **options)
