"""Miners with PML's conventions."""

from .multilabel_miner import MultiLabelMiner as MultiLabelMiner
