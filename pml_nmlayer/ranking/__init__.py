"""Retrieval metrics of Hamming rankings, exact in the presence of ties."""

from .at_r import tie_aware_map_at_r as tie_aware_map_at_r
from .average_precision import Normalizer as Normalizer
from .average_precision import mean_average_precision as mean_average_precision
from .average_precision import tie_aware_average_precision as tie_aware_average_precision
from .by_class import mean_by_class as mean_by_class
from .conventional import conventional_average_precision as conventional_average_precision
from .curves import precision_recall_curve as precision_recall_curve
from .cut_off import precision_at_k as precision_at_k
from .cut_off import recall_at_k as recall_at_k
from .graded import tie_aware_acg as tie_aware_acg
from .graded import tie_aware_wap as tie_aware_wap
from .hit_rate import hit_rate_at_k as hit_rate_at_k
from .ndcg import Gain as Gain
from .ndcg import ndcg as ndcg
from .ndcg import tie_aware_ndcg as tie_aware_ndcg
from .queries import Empty as Empty
from .queries import mean_over_queries as mean_over_queries
from .radius import f1_within_radius as f1_within_radius
from .radius import precision_within_radius as precision_within_radius
from .radius import recall_within_radius as recall_within_radius
from .reciprocal_rank import tie_aware_reciprocal_rank as tie_aware_reciprocal_rank
from .tied import tied_at_k as tied_at_k
from .ties import TieOrder as TieOrder
