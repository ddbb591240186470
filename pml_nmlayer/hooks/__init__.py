"""Hooks for PML's trainers."""

from .chain_hooks import chain_hooks as chain_hooks
from .progressive_merging import ProgressiveMerging as ProgressiveMerging
