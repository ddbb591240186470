"""Hashing losses with PML's conventions, one class a file."""

from .dpsh_loss import DPSHLoss as DPSHLoss
