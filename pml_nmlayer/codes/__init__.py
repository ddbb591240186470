"""What a bit is, and how codes are packed."""

from .convention import binarize as binarize
from .convention import check_codes as check_codes
from .convention import raw_sign as raw_sign
from .convention import sign_ste as sign_ste
from .outputs import OutputRange as OutputRange
from .outputs import check_outputs as check_outputs
from .outputs import range_of as range_of
from .packing import pack_codes as pack_codes
from .packing import unpack_codes as unpack_codes
