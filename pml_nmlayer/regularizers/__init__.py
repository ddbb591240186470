"""Regularizers of codes, usable as PML's `embedding_regularizer`."""

from .bit_balance_regularizer import BitBalanceRegularizer as BitBalanceRegularizer
from .bit_decorrelation_regularizer import (
    BitDecorrelationRegularizer as BitDecorrelationRegularizer,
)
from .quantization_regularizer import QuantizationRegularizer as QuantizationRegularizer
from .weighted_sum_regularizer import WeightedSumRegularizer as WeightedSumRegularizer
