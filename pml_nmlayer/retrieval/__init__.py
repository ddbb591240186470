"""Searching among codes, and handing them to other engines."""

from .bit_strings import bit_strings_to_codes as bit_strings_to_codes
from .bit_strings import codes_to_bit_strings as codes_to_bit_strings
from .code_array import FileCodes as FileCodes
from .code_array import read_codes as read_codes
from .encoder import HashEncoder as HashEncoder
from .export import export_onnx as export_onnx
from .export import export_program as export_program
from .hash_index import HashIndex as HashIndex
