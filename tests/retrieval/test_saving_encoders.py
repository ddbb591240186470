"""save_pretrained and from_pretrained."""

import builtins
import json

import pytest
import torch
from torch import nn

from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.retrieval import HashEncoder
from tests.retrieval.killed import kill_at, start, was_killed

X = torch.randn(40, 64, generator=torch.Generator().manual_seed(5))


def models(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU()), ProgressiveHead(64, (24, 12))


HEADS = {
    "linear": lambda: ProgressiveHead(64, (12, 5), activation=None),
    "tanh": lambda: ProgressiveHead(64, (12, 5)),
    "merge after tanh": lambda: ProgressiveHead(64, (12, 5), merge="tanh", batch_norm=True),
    "plain": lambda: nn.Linear(64, 7, bias=False),
    "nested": lambda: nn.Sequential(
        nn.Linear(64, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 9)), nn.Tanh()
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


def saved(folder, seed=0):
    trunk, head = models(seed)
    encoder = HashEncoder(trunk, head)
    encoder.save_pretrained(folder)
    return trunk, encoder


def test_saving_again_leaves_two_files(tmp_path):
    saved(tmp_path, 0)
    trunk, encoder = saved(tmp_path, 1)
    assert len(list(tmp_path.iterdir())) == 2
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


def test_heads_of_other_layers_are_refused(tmp_path):
    encoder = HashEncoder(nn.Identity(), nn.Sequential(nn.Linear(64, 8), nn.GELU()))
    with pytest.raises(ValueError, match=r"ReLU, Identity, this one has GELU"):
        encoder.save_pretrained(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


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
        step += 3
    assert kinds == sorted(kinds, reverse=True)
    assert {"old", "new"} == set(kinds)
    assert len(kinds) > 10
