"""Hashing losses with PML's conventions, one class a file."""

from .cross_batch_memory import HashCrossBatchMemory as HashCrossBatchMemory
from .csq_loss import CSQLoss as CSQLoss
from .dfh_loss import DFHLoss as DFHLoss
from .dhn_loss import DHNLoss as DHNLoss
from .dpn_loss import DPNLoss as DPNLoss
from .dpsh_loss import DPSHLoss as DPSHLoss
from .dsdh_loss import DSDHLoss as DSDHLoss
from .dsh_loss import DSHLoss as DSHLoss
from .dtsh_loss import DTSHLoss as DTSHLoss
from .greedyhash_loss import GreedyHashLoss as GreedyHashLoss
from .hashnet_loss import HashNetLoss as HashNetLoss
from .jmlh_loss import JMLHLoss as JMLHLoss
from .mihash_loss import MIHashLoss as MIHashLoss
from .multilabel_loss import MultiLabelLoss as MultiLabelLoss
from .nm_loss import NMLoss as NMLoss
from .orthohash_loss import OrthoHashLoss as OrthoHashLoss
from .self_supervised_loss import HashSelfSupervisedLoss as HashSelfSupervisedLoss
from .tie_aware_ap_loss import TieAwareAPLoss as TieAwareAPLoss
