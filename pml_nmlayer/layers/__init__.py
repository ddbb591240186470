"""Layers of a hash head (torch only)."""

from .nm_layer import NMLayer as NMLayer
from .progressive_head import ProgressiveHead as ProgressiveHead
