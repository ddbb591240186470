"""Layers of a hash head (torch only)."""

from ..heads.bi_half import BiHalf as BiHalf
from ..heads.progressive_head import ProgressiveHead as ProgressiveHead
from ..merging.nm_layer import NMLayer as NMLayer
