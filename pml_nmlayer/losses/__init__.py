"""Hashing losses with PML's conventions, one class a file."""

from .dpsh_loss import DPSHLoss as DPSHLoss
from .nm_loss import NMLoss as NMLoss
