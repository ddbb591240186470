"""Searching among codes, and handing them to other engines."""

from .bit_strings import bit_strings_to_codes as bit_strings_to_codes
from .bit_strings import codes_to_bit_strings as codes_to_bit_strings
from .code_array import FileCodes as FileCodes
from .code_array import read_codes as read_codes
from .encoder import HashEncoder as HashEncoder
from .export import export_onnx as export_onnx
from .export import export_program as export_program
from .hash_index import HashIndex as HashIndex
from .stored_forms import codes_to_hex as codes_to_hex
from .stored_forms import codes_to_signed_bytes as codes_to_signed_bytes
from .stored_forms import codes_to_words as codes_to_words
from .stored_forms import hex_to_codes as hex_to_codes
from .stored_forms import signed_bytes_to_codes as signed_bytes_to_codes
from .stored_forms import words_to_codes as words_to_codes
