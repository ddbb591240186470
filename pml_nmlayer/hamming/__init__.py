"""Distances in bits, and what every retrieval metric needs of them: histograms."""

from .distance import checked_codes as checked_codes
from .distance import hamming_distance as hamming_distance
from .distinct import distinct_codes as distinct_codes
from .exclusion import Exclude as Exclude
from .exclusion import as_exclusion as as_exclusion
from .exclusion import exclude_rows as exclude_rows
from .histograms import MAX_BYTES as MAX_BYTES
from .histograms import grade_histograms as grade_histograms
from .histograms import hamming_histograms as hamming_histograms
from .histograms import pair_counter as pair_counter
