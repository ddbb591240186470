"""Distances in bits, and what every retrieval metric needs of them: histograms."""

from .distance import checked_codes as checked_codes
from .distance import hamming_distance as hamming_distance
from .histograms import MAX_BYTES as MAX_BYTES
from .histograms import grade_histograms as grade_histograms
from .histograms import hamming_histograms as hamming_histograms
from .histograms import pair_counter as pair_counter
