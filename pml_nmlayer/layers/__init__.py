"""Layers of a hash head (torch only)."""

from .bi_half import BiHalf as BiHalf
from .nm_layer import NMLayer as NMLayer
from .progressive_head import ProgressiveHead as ProgressiveHead
