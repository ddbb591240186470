"""Samplers for multi-hot labels."""

from .multilabel_sampler import MultiLabelMPerClassSampler as MultiLabelMPerClassSampler
