"""Hooks for PML's trainers, and what a long training needs beside them."""

from .adapting import adapt_head as adapt_head
from .adapting import adapt_when_trained as adapt_when_trained
from .chain_hooks import chain_hooks as chain_hooks
from .checkpoints import RandomState as RandomState
from .checkpoints import checkpointed as checkpointed
from .checkpoints import load_checkpoint as load_checkpoint
from .checkpoints import save_checkpoint as save_checkpoint
from .progressive_merging import ProgressiveMerging as ProgressiveMerging
from .schedules import FixedTimes as FixedTimes
from .schedules import WhenPlateau as WhenPlateau
from .stage_lr import StageLR as StageLR
