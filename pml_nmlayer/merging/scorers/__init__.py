"""What the active phase measures, and which groups follow from it."""

from .base import EVERY_N_STEPS as EVERY_N_STEPS
from .base import Measurement as Measurement
from .base import Scorer as Scorer
from .base import Weighting as Weighting
from .codewords import Codewords as Codewords
from .controls import Prune as Prune
from .controls import Random as Random
from .correlation import Correlation as Correlation
from .drop_one import DropOne as DropOne
from .function_scorer import FunctionScorer as FunctionScorer
from .registry import SCORERS as SCORERS
from .registry import make_scorer as make_scorer
