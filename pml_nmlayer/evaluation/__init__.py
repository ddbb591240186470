"""Judging codes with PML's calculators and testers."""

from .hamming_accuracy_calculator import HAMMING_METRICS as HAMMING_METRICS
from .hamming_accuracy_calculator import (
    HammingAccuracyCalculator as HammingAccuracyCalculator,
)
from .hamming_knn import HammingKNN as HammingKNN
from .hamming_retrieval import HammingRetrieval as HammingRetrieval
from .hash_tester import hash_tester as hash_tester
from .sharded import mean_over_ranks as mean_over_ranks
from .sharded import query_share as query_share
from .sharded import sharded_mean_average_precision as sharded_mean_average_precision
