"""Distances between codes, usable as PML's `distance`."""

from .hamming_similarity import HammingSimilarity as HammingSimilarity
