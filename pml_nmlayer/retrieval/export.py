"""What a HashEncoder computes, as one graph for programs without this package."""

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pml_nmlayer

from ..runtime.atomic import atomic_write, replacing
from .inputs import batches
from .pretrained import CONVENTION
from .serving import uncompiled
from .states import FilePath, checksum

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from .encoder import HashEncoder


def export_program(
    encoder: "HashEncoder", example: Any, path: FilePath | None = None
) -> "ExportedProgram":
    r"""Export trunk, head, signs and packing as one graph with torch.export.

    Formula:  codes = byte_m = sum over j = 0..7 of 2^(7-j) [u_(8m+j) >= 0] of
              u = head(trunk(x)) in eval mode; missing bits are 0.

    The graph begins after the transform and holds copies of trunk and head. A Tanh at the
    end of the head is left out, since it changes no sign. A graph cannot refuse NaN: its
    bit is 0.

    Args:
        encoder: what to export.
        example: data as `HashEncoder.encode` takes, of at least one item and readable
            twice. Dtype and shape count; the values go nowhere.
        path: also write the program there (".pt2", for `torch.export.load`), in one piece:
            a crash leaves the old file or the new one. None for no file.

    Shapes:   x (B, ...) as the trunk takes -> (B, ceil(bits / 8)) uint8, for any B.
    Returns:  the program; `program.module()(x)` runs it. In the file, the extra file
              "metadata.json" tells bits, package_version, convention and model (the
              checksum that `HashEncoder.encode_to_file` records).
    Raises:   ValueError: no item in `example`, an encoder with amp, or what
              `HashEncoder.encode` refuses. Errors of torch.export: a trunk that it cannot
              trace, or one that works for one batch size only.
    Source:   this package; `pack_codes` for the layout.
              Differs: `HashEncoder.encode` refuses NaN.

    Example:
        >>> from pml_nmlayer.retrieval import HashEncoder
        >>> encoder = HashEncoder(nn.Flatten(), nn.Linear(12, 20))
        >>> x = torch.randn(5, 3, 2, 2)
        >>> program = export_program(encoder, x)
        >>> torch.equal(program.module()(x), encoder.encode(x))
        True
    """
    program = _trace(encoder, example)
    if path is not None:
        extra = {"metadata.json": json.dumps(_metadata(encoder))}
        with replacing(Path(path)) as file:
            torch.export.save(program, file, extra_files=extra)
    return program


def export_onnx(encoder: "HashEncoder", example: Any, path: FilePath) -> Path:
    """Write the graph of `export_program` as an ONNX file of up to 2 GiB.

    Input "x" and output "codes" share the dynamic dimension "batch"; the metadata_props
    tell bits, package_version, convention and model. The file is written in one piece: a
    crash leaves the old file or the new one.

    Args:
        encoder: what to export.
        example: see `export_program`.
        path: of the file.

    Returns:
        `path`. In ONNX Runtime, which sums in another order than torch, bits whose output
        lies within rounding of 0 may differ from those of `encoder`, and no others.

    Raises:
        ValueError: as `export_program`.
        ImportError: onnx or onnxscript is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  torch.onnx.export needs it
    except ImportError as error:
        raise ImportError(
            "ONNX files need onnx and onnxscript: pip install pml-nmlayer[onnx]"
        ) from error
    exported = torch.onnx.export(
        _trace(encoder, example),
        input_names=["x"],
        output_names=["codes"],
        dynamic_shapes=_dynamic_batch(),
        dynamo=True,
        verbose=False,
    )
    assert exported is not None
    model = exported.model_proto
    onnx.helper.set_model_props(model, _metadata(encoder))
    atomic_write(Path(path), model.SerializeToString())
    return Path(path)


class _PackedCodes(nn.Module):
    """The served modules and what `HashEncoder` does to their outputs."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        if isinstance(head, nn.Sequential) and type(head[-1]) is nn.Tanh:
            head = head[:-1]
        # Copies, so that eval mode and later training stay apart
        self.trunk, self.head = copy.deepcopy(uncompiled(trunk)), copy.deepcopy(head)

    def forward(self, x: Tensor) -> Tensor:
        u = self.head(self.trunk(x))
        ones = F.pad((u >= 0).int(), (0, -u.shape[1] % 8)).unflatten(1, (-1, 8))
        place = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], device=u.device).int()
        return (ones * place).sum(2, dtype=torch.int32).to(torch.uint8)


def _trace(encoder: "HashEncoder", example: Any) -> "ExportedProgram":
    if not all(hasattr(encoder, name) for name in ("encode", "trunk", "head", "amp")):
        raise TypeError(
            f"export needs a HashEncoder, got {type(encoder).__name__}: HashEncoder(trunk, "
            "head)"
        )
    if encoder.amp is not None:
        raise ValueError(
            f"a graph computes in the dtype of its parameters, this encoder has "
            f"amp={encoder.amp}: export one without amp, its trunk converted if need be"
        )
    encoder.encode(example)  # refuses what cannot be served, and tells the bits
    first = next(batches(example, 1, 0, encoder.transform), None)
    if first is None:
        raise ValueError("export needs an example of at least one item, got none")
    # torch.export takes sizes 0 and 1 for constants; the file should keep no example
    x = first.new_zeros(2, *first.shape[1:], device=encoder.device)
    module = _PackedCodes(encoder.trunk, encoder.head).eval()
    program = torch.export.export(module, (x,), dynamic_shapes=_dynamic_batch())
    for node in program.graph.nodes:  # source lines and paths of this machine
        node.meta.pop("stack_trace", None)
    return program


def _dynamic_batch() -> tuple[Any, ...]:
    return ({0: torch.export.Dim("batch")},)


def _metadata(encoder: "HashEncoder") -> dict[str, str]:
    return {
        "bits": str(encoder.bits),
        "package_version": pml_nmlayer.__version__,
        "convention": CONVENTION,
        "model": checksum(encoder.trunk, encoder.head),
    }
