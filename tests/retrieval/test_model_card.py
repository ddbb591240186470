"""A model card says what its user gave, and nothing else."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from pml_nmlayer import HashEncoder, Hasher
from pml_nmlayer.retrieval.model_card import card_text

CARD = {
    "data": "CIFAR-10, training half",
    "protocol": "1,000 queries, a database of 59,000 that holds the training items",
    "metric": "mAP@all, expectation over ties",
    "not_for": "Faces.",
    "figures": {"mAP@all": 0.603, "P@r<=2": 1},
}


@pytest.fixture(scope="module")
def hasher():
    return Hasher(bits=8).fit(np.random.RandomState(0).randn(60, 4))


def test_all_that_was_given_stands_there():
    text = card_text(bits=24, kind="Hasher", card=CARD)
    for value in ("data", "protocol", "metric", "not_for"):
        assert CARD[value] in text
    assert "| mAP@all | 0.603 |" in text
    assert "**Bits:** 24" in text


def test_what_was_not_given_is_said_to_be_unknown():
    text = card_text(bits=None, kind="HashEncoder")
    assert text.count("Not stated") == 3
    assert "Figures" not in text
    assert "**Bits:** unknown" in text
    # The only numbers are those of the code and the package
    body = text.split("---", 2)[2]
    assert set(re.findall(r"\d+\.\d+", body)) <= set(re.findall(r"\d+\.\d+", "0.2.0 0.2"))


def test_a_hub_reads_its_front_matter():
    yaml = pytest.importorskip("yaml")
    front = card_text(bits=8, kind="Hasher").split("---")[1]
    assert yaml.safe_load(front)["library_name"] == "pml-nmlayer"


def test_hasher_writes_one(hasher, tmp_path):
    hasher.save(tmp_path / "new", card=CARD)
    assert CARD["protocol"] in (tmp_path / "new" / "README.md").read_text()
    Hasher.load(tmp_path / "new")


def test_an_encoder_writes_one(tmp_path):
    encoder = HashEncoder(nn.Identity(), nn.Linear(4, 6))
    encoder.save_pretrained(tmp_path)
    assert "**Bits:** 6" in (tmp_path / "README.md").read_text()
    encoder.save_pretrained(tmp_path, card={"data": "Mine."})
    assert "Mine." in (tmp_path / "README.md").read_text()
    again = HashEncoder.from_pretrained(tmp_path, nn.Identity())
    x = torch.randn(5, 4)
    assert torch.equal(again.encode(x), encoder.encode(x))


@pytest.mark.parametrize(
    ("card", "error", "words"),
    [
        ({"dat": "x"}, ValueError, "dat"),
        ({"figures": {"mAP": 0.5}}, ValueError, "without data, protocol, metric"),
        ({**CARD, "figures": {"mAP": float("nan")}}, ValueError, "leave it out"),
        ({**CARD, "figures": {"mAP": "0.6"}}, TypeError, "must be a number"),
        ({**CARD, "figures": [0.6]}, TypeError, "map metrics"),
        ({"data": 3}, TypeError, "must be text"),
    ],
    ids=["field", "bare figure", "nan", "text", "list", "number"],
)
def test_what_says_nothing_is_refused_before_anything_is_written(
    card, error, words, hasher, tmp_path
):
    with pytest.raises(error, match=words):
        hasher.save(tmp_path / "model", card=card)
    assert not (tmp_path / "model").exists()
