"""Pictures of codes: each function takes a matplotlib Axes and returns it."""

from .curves import map_against_bits as map_against_bits
from .curves import precision_recall as precision_recall
from .distances import distance_distribution as distance_distribution
from .importance import bit_importance as bit_importance
from .neighbours import neighbour_gallery as neighbour_gallery
from .redundancy import redundancy_graph as redundancy_graph
from .tree import merge_tree as merge_tree
