"""Paths and names of version 0.1 work with a warning until 1.0."""

import importlib
import sys

import pytest

import pml_nmlayer
from pml_nmlayer.runtime.moved import MOVED

# One name of each module of 0.1 that moved
NAMES = {
    "atomic": "replacing",
    "bit_statistics": "bit_statistics",
    "codebooks": "make_codebook",
    "codewords": "semantic_codebook",
    "label_sets": "as_label_sets",
    "layers.bi_half": "BiHalf",
    "layers.configuration": "Configured",
    "layers.folding": "Readout",
    "layers.nm_layer": "NMLayer",
    "layers.progressive_head": "ProgressiveHead",
    "pair_counts": "PairCounter",
    "pair_likelihood": "drop_one_importance",
    "process_group": "as_on_first",
    "redundancy": "RedundancyGraph",
    "scorers": "Correlation",
    "similarity": "shared_label",
}


@pytest.mark.parametrize("old", MOVED)
def test_old_paths_warn_and_lead_to_the_same_thing(old):
    sys.modules.pop(f"pml_nmlayer.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"pml_nmlayer.{old} has moved to"):
        module = importlib.import_module(f"pml_nmlayer.{old}")
    found = getattr(module, NAMES[old])
    homes = [importlib.import_module(f"pml_nmlayer.{new}") for new in MOVED[old]]
    assert any(getattr(home, NAMES[old], None) is found for home in homes)
    with pytest.raises(AttributeError, match=r"moved to .*CHANGELOG\.md"):
        module.__getattr__("gone")


@pytest.mark.parametrize("name", pml_nmlayer.__all__)
def test_the_root_exports_what_the_contract_names(name):
    assert getattr(pml_nmlayer, name) is not None
    assert name in dir(pml_nmlayer)


def test_an_unknown_name_of_the_root_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'gone'"):
        pml_nmlayer.__getattr__("gone")
    with pytest.raises(ImportError):
        importlib.import_module("pml_nmlayer.gone")
