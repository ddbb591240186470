"""Labels: class ids (N,) or multi-hot rows (N, C), and what they say of pairs."""

from .checks import as_labels as as_labels
from .checks import check_label_pair as check_label_pair
from .checks import check_labels as check_labels
from .checks import class_rows as class_rows
from .columns import check_not_a_column as check_not_a_column
from .columns import width_of_rows as width_of_rows
from .label_map import LabelMap as LabelMap
from .label_sets import LabelSets as LabelSets
from .label_sets import as_label_sets as as_label_sets
from .label_sets import check_miner as check_miner
from .relevance import Relevance as Relevance
from .relevance import jaccard as jaccard
from .relevance import relevance_grades as relevance_grades
from .relevance import shared_label as shared_label
from .relevance import shared_label_count as shared_label_count
