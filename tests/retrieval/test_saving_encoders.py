"""save_pretrained and from_pretrained."""

import builtins
import json

import pytest
import torch
from torch import nn

from pml_nmlayer.heads.folding import Readout
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.retrieval import HashEncoder
from pml_nmlayer.retrieval.head_layers import build, code_length, describe
from tests.processes import start
from tests.retrieval.killed import kill_at, was_killed

X = torch.randn(40, 64, generator=torch.Generator().manual_seed(5))


def models(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU()), ProgressiveHead(64, (24, 12))


HEADS = {
    "linear": lambda: ProgressiveHead(64, (12, 5), activation=None),
    "tanh": lambda: ProgressiveHead(64, (12, 5)),
    "batch norm": lambda: ProgressiveHead(64, (12, 5), batch_norm=True),
    "classes": lambda: ProgressiveHead(64, (12, 5), num_classes=4),
    "classes, linear": lambda: ProgressiveHead(64, (12, 5), num_classes=4, activation=None),
    "plain": lambda: nn.Linear(64, 7, bias=False),
    "nested": lambda: nn.Sequential(
        nn.Linear(64, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 9)), nn.Tanh()
    ),
    "nested parts": lambda: nn.Sequential(
        Readout(
            nn.Sequential(nn.Sequential(nn.Linear(64, 8), nn.ReLU()), nn.Linear(8, 9)),
            nn.Linear(64, 3),
            nn.Linear(3, 9, bias=False),
        ),
        nn.Identity(),
    ),
    "double": lambda: nn.Linear(64, 7).double(),
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_saved_head_gives_the_same_codes(tmp_path, kind):
    trunk, head = models(0)[0], HEADS[kind]()
    if isinstance(head, ProgressiveHead):
        head.observe(head(trunk(X)), torch.arange(40) % 4)
        head.merge_next()
    trunk = trunk.double() if kind == "double" else trunk
    x = X.double() if kind == "double" else X
    encoder = HashEncoder(trunk, head)
    encoder.save_pretrained(tmp_path / "new" / "encoder")
    config = json.loads((tmp_path / "new" / "encoder" / "config.json").read_text())
    assert config["bits"] == encoder.bits
    assert config["package_version"]
    loaded = HashEncoder.from_pretrained(str(tmp_path / "new/encoder"), trunk, batch_size=9)
    assert (loaded.bits, loaded.batch_size) == (encoder.bits, 9)
    assert torch.equal(loaded.encode(x), encoder.encode(x))
    for name, value in encoder.head.state_dict().items():
        assert any(
            torch.equal(value, other) for other in loaded.head.state_dict().values()
        ), name
    features = trunk(x)
    assert torch.equal(loaded.head(features), encoder.head(features))


def saved(folder, seed=0):
    trunk, head = models(seed)
    encoder = HashEncoder(trunk, head)
    encoder.save_pretrained(folder)
    return trunk, encoder


def test_saving_again_leaves_two_files_and_a_card(tmp_path):
    saved(tmp_path, 0)
    trunk, encoder = saved(tmp_path, 1)
    names = {path.suffix for path in tmp_path.iterdir()}
    assert names == {".json", ".safetensors", ".md"}
    assert len(list(tmp_path.iterdir())) == 3
    loaded = HashEncoder.from_pretrained(tmp_path, trunk)
    assert torch.equal(loaded.encode(X), encoder.encode(X))


def test_another_trunk_is_refused_unless_told(tmp_path):
    trunk, _ = saved(tmp_path)
    half = nn.Sequential(*trunk).bfloat16()
    with pytest.raises(ValueError, match=r"saved with trunk_sha256 .*: another trunk"):
        HashEncoder.from_pretrained(tmp_path, half)
    HashEncoder.from_pretrained(tmp_path, half, check_trunk=False)


def change(folder, case):
    """Spoil what was saved."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    weights = folder / config["weights"]
    if case == "no config":
        file.unlink()
    elif case == "no weights":
        weights.unlink()
    elif case == "damaged weights":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif case == "not JSON":
        file.write_text("{")
    elif case == "a list":
        file.write_text("[]")
    else:
        if case == "missing":
            del config["bits"]
        elif case == "unknown layer":
            config["layers"][1]["type"] = "Softsign"
        elif case == "wrong option":
            config["layers"][0]["in"] = 3
        elif case == "wrong shape":
            config["layers"][0]["in_features"] = 3
        else:
            config[case] = 11
        file.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        ("no config", ValueError, "has no config.json; save_pretrained writes one"),
        ("no weights", FileNotFoundError, "head-"),
        ("damaged weights", ValueError, "saved with weights_sha256 .* damaged weights"),
        ("not JSON", ValueError, "is not a config of a head"),
        ("a list", ValueError, "is not a config of a head"),
        ("missing", ValueError, r"lacks \['bits'\]"),
        ("format", ValueError, "has format 11, this version reads 'pml_nmlayer head 1'"),
        ("convention", ValueError, "has convention 11, this version reads 'bit 1 where"),
        ("bits", ValueError, "promises 11 bits, its layers give 24"),
        ("unknown layer", ValueError, "unknown layer type 'Softsign', known: Linear, Tanh"),
        ("wrong option", ValueError, "wrong description of a Linear"),
        ("wrong shape", ValueError, "(?s)do not fit the layers.*size mismatch"),
    ],
)
def test_spoiled_folders(tmp_path, case, error, message):
    trunk, _ = saved(tmp_path)
    change(tmp_path, case)
    with pytest.raises(error, match=message):
        HashEncoder.from_pretrained(tmp_path, trunk)


def readout(neurons=None, classes=None, words=None):
    return Readout(
        neurons or nn.Linear(6, 4), classes or nn.Linear(6, 3), words or nn.Linear(3, 4)
    )


@pytest.mark.parametrize(
    "head",
    [
        nn.Sequential(nn.Linear(64, 8), nn.GELU()),
        readout(neurons=nn.Sequential(nn.Linear(6, 4), nn.GELU())),
        nn.Sequential(readout(words=nn.Sequential(nn.GELU())), nn.Tanh()),
    ],
)
def test_heads_of_other_layers_are_refused(tmp_path, head):
    encoder = HashEncoder(nn.Identity(), head)
    with pytest.raises(ValueError, match="Readout, Sequential, this one has GELU"):
        encoder.save_pretrained(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_readout_is_described_by_its_parts():
    head = readout(neurons=nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)))
    description = describe(head)
    assert json.loads(json.dumps(description)) == description
    assert list(description) == ["type", "neurons", "classes", "words"]
    again = build(description)
    assert str(again) == str(head)
    assert code_length(again) == code_length(nn.Sequential(again, nn.Tanh())) == 4
    again.load_state_dict(head.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "Softsign"}, "unknown layer type 'Softsign', known: Linear, Tanh"),
        ({"type": None}, "unknown layer type None"),
        ({"type": ["Linear"]}, r"unknown layer type \['Linear'\]"),
        ({"neurons": {}}, "unknown layer type None"),
        ({"neurons": {"type": "GELU"}}, "unknown layer type 'GELU'"),
        ({"words": {"type": "Linear", "width": 3}}, "wrong description of a Linear"),
        ({"bits": 4}, "wrong description of a Readout: .*'bits'"),
        ({"type": "Tanh"}, "wrong description of a Tanh"),
        ({"type": "Sequential", "neurons": 3}, "wrong description of a Sequential"),
        ({"type": "Linear"}, "wrong description of a Linear"),
    ],
)
def test_wrong_descriptions(changes, message):
    with pytest.raises(ValueError, match=message):
        build(describe(readout()) | changes)


def test_a_description_is_complete_and_a_dict():
    description = describe(readout())
    del description["words"]
    with pytest.raises(ValueError, match=r"wrong description of a Readout: .*'words'"):
        build(description)
    with pytest.raises(ValueError, match="must be described by a dict, got 'Linear'"):
        build("Linear")


def test_a_part_of_another_kind_does_not_fit_the_weights(tmp_path):
    encoder = HashEncoder(nn.Identity(), readout())
    encoder.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    for other in (3, None, {"type": "Tanh"}, {"type": "Sequential"}):
        spoiled = [config["layers"][0] | {"words": other}]
        file.write_text(json.dumps(config | {"layers": spoiled}))
        with pytest.raises(ValueError, match=r"do not fit the layers|words.* must be"):
            HashEncoder.from_pretrained(tmp_path, nn.Identity())


def test_without_safetensors(tmp_path, monkeypatch):
    load = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("safetensors"):
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install pml-nmlayer\[pretrained\]"):
        HashEncoder(*models(0)).save_pretrained(tmp_path)


def save_and_die(folder, step):
    torch.set_num_threads(1)
    trunk, head = models(1)
    encoder = HashEncoder(trunk, head)
    kill_at(step, ("pretrained.py", "atomic.py"))
    encoder.save_pretrained(folder)


def test_killed_while_saving_the_old_head_or_the_new_one_is_whole(tmp_path):
    step, kinds = 1, []
    new_trunk, new_head = models(1)
    while True:
        folder = tmp_path / str(step)
        trunk, old = saved(folder)
        if not was_killed(start(save_and_die, folder, step)):
            break
        try:
            loaded = HashEncoder.from_pretrained(folder, trunk)
            assert torch.equal(loaded.encode(X), old.encode(X))
            kinds.append("old")
        except ValueError:
            loaded = HashEncoder.from_pretrained(folder, new_trunk)
            assert torch.equal(loaded.encode(X), HashEncoder(new_trunk, new_head).encode(X))
            kinds.append("new")
        step += 7
    assert kinds == sorted(kinds, reverse=True)
    assert {"old", "new"} == set(kinds)
    assert len(kinds) > 10
