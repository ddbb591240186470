"""Judging codes with PML's calculators and testers."""

from .hamming_accuracy_calculator import (
    HammingAccuracyCalculator as HammingAccuracyCalculator,
)
from .hamming_knn import HammingKNN as HammingKNN
