"""What version 0.1.0 wrote still loads, and what was saved under a wrapper, too."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pml_nmlayer.hooks import load_checkpoint, save_checkpoint
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.retrieval import HashEncoder, HashIndex, read_codes
from pml_nmlayer.retrieval.states import checksum

from .hash_index_cases import clustered_codes, filled, shuffled_ids

OLD = Path(__file__).parent / "files_0_1_0"


def modules():
    return nn.Linear(6, 5), nn.Sequential(nn.Linear(5, 11), nn.Tanh())


def encoder():
    return HashEncoder.from_checkpoint(*modules(), OLD / "model.pt", batch_size=4)


DATA = torch.load(OLD / "model.pt", weights_only=True)["x"]


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "multihash"])
def test_index_files(kind):
    codes = clustered_codes(60, 24)
    index = HashIndex.load(OLD / f"{kind}.index")
    again = filled("flat", codes, shuffled_ids(60))
    assert torch.equal(index.ids, again.ids)
    assert torch.equal(index.codes_of(again.ids), again.codes_of(again.ids))
    assert not index.search(codes, 1)[0].any()
    if kind == "flat":
        mapped = HashIndex.load(OLD / "flat.index", mmap=True, verify=True)
        assert torch.equal(mapped.search(codes, 9)[1], again.search(codes, 9)[1])


def test_files_of_codes(tmp_path):
    found = read_codes(OLD / "codes.npy", verify=True)
    assert np.array_equal(found.codes, encoder().encode(DATA))
    assert (found.bits, found.skipped) == (11, {})
    for name in ("codes.npy", "codes.npy.json", "begun.npy.json", "begun.npy.partial"):
        shutil.copy(OLD / name, tmp_path)
    before = (tmp_path / "codes.npy").stat()
    encoder().encode_to_file(DATA, tmp_path / "codes.npy")
    assert (tmp_path / "codes.npy").stat().st_ino == before.st_ino

    class Rest:
        reads = 0

        def __len__(self):
            return 33

        def __getitem__(self, i):
            Rest.reads += 1
            return DATA[i]

    encoder().encode_to_file(Rest(), tmp_path / "begun.npy")
    assert Rest.reads == 13
    assert np.array_equal(np.load(tmp_path / "begun.npy"), found.codes)
    assert read_codes(tmp_path / "begun.npy", verify=True).bits == 11


def test_pretrained_folders_and_checkpoints():
    trunk, head = modules()
    saved = {"trunk": trunk, "embedder": head}
    assert load_checkpoint(OLD / "checkpoint.pt", models=saved) == {"epoch": 3}
    again = HashEncoder.from_pretrained(OLD / "encoder", trunk)
    expected = encoder().encode(DATA)
    assert torch.equal(again.encode(DATA), expected)
    assert torch.equal(HashEncoder(trunk, head).encode(DATA), expected)
    known = json.loads((OLD / "codes.npy.json").read_text())["model"]
    assert checksum(encoder().trunk, encoder().head) == known


WRAPPERS = {
    "plain": lambda module: module,
    "compiled": lambda module: torch.compile(module, backend="eager"),
    "DataParallel": nn.DataParallel,
    "both": lambda module: nn.DataParallel(torch.compile(module, backend="eager")),
    "part": lambda module: (
        nn.Sequential(*(torch.compile(part, backend="eager") for part in module))
        if isinstance(module, nn.Sequential)
        else module
    ),
}


@pytest.mark.parametrize("there", WRAPPERS)
@pytest.mark.parametrize("here", WRAPPERS)
def test_saved_under_one_wrapper_and_loaded_under_another(tmp_path, there, here):
    torch.manual_seed(0)
    trunk, head = nn.Sequential(nn.Linear(6, 5), nn.ReLU()), ProgressiveHead(5, (12, 6))
    expected = HashEncoder(trunk, head).encode(DATA)
    wrapped = {"trunk": WRAPPERS[there](trunk), "embedder": WRAPPERS[there](head)}
    save_checkpoint(tmp_path / "c.pt", models=wrapped)
    torch.save({k: m.state_dict() for k, m in wrapped.items()}, tmp_path / "m.pt")

    def fresh():
        torch.manual_seed(1)
        parts = nn.Sequential(nn.Linear(6, 5), nn.ReLU()), ProgressiveHead(5, (12, 6))
        return [WRAPPERS[here](part) for part in parts]

    trunk, head = fresh()
    load_checkpoint(tmp_path / "c.pt", models={"trunk": trunk, "embedder": head})
    assert torch.equal(HashEncoder(trunk, head).encode(DATA), expected)
    coder = HashEncoder.from_checkpoint(*fresh(), tmp_path / "m.pt")
    assert torch.equal(coder.encode(DATA), expected)
    assert checksum(coder.trunk, coder.head) == checksum(wrapped["trunk"], coder.head)
    coder.save_pretrained(tmp_path / "encoder")
    again = HashEncoder.from_pretrained(tmp_path / "encoder", wrapped["trunk"])
    assert torch.equal(again.encode(DATA), expected)


@pytest.mark.parametrize("prefix", ["", "model.", "net._orig_mod."])
@pytest.mark.parametrize("name", ["head", "embedder"])
def test_a_checkpoint_of_lightning(tmp_path, prefix, name):
    trunk, head = modules()
    state = {"loss.head.weight": torch.zeros(1)}
    for part, module in (("trunk", trunk), (name, head)):
        state |= {f"{prefix}{part}.{key}": v for key, v in module.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "last.ckpt")
    coder = HashEncoder.from_checkpoint(*modules(), tmp_path / "last.ckpt")
    assert torch.equal(coder.encode(DATA), HashEncoder(trunk, head).encode(DATA))
    torch.save({"state_dict": {"net.weight": torch.zeros(1)}}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"Lightning without one 'trunk'.*save \{'trunk'"):
        HashEncoder.from_checkpoint(*modules(), tmp_path / "last.ckpt")


def test_a_state_of_a_larger_model_says_how(tmp_path):
    trunk, head = modules()
    state = {f"model.{name}": value for name, value in trunk.state_dict().items()}
    torch.save({"trunk": state, "head": head.state_dict()}, tmp_path / "m.pt")
    HashEncoder.from_checkpoint(*modules(), tmp_path / "m.pt")  # one prefix for all
    torch.save({"trunk": {**state, "x.y": DATA}, "head": {}}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"(?s)does not fit the trunk.*removeprefix"):
        HashEncoder.from_checkpoint(*modules(), tmp_path / "m.pt")
